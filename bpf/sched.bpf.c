// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Time of each process: on CPU, waiting for a CPU, blocked. Nothing runs at a context switch or a wake-up: the
 * kernel keeps these sums for every thread by itself (sched_info, se.sum_exec_runtime), so an iterator reads them
 * when the sensor asks, and threads that are gone are added up as the kernel frees them. Programs on
 * sched_switch and sched_wakeup cost 680 ns a round trip of two switches (Linux 6.18), 9 % of a proxy's throughput.
 *
 *   process = sum over its threads in the iterator + its row in sched_counts (threads that were freed)
 *
 * What the kernel does not keep is the time in uninterruptible sleep: the iterator tells who is in it now, and the
 * sensor samples that. Needs Linux 6.1, BTF and CONFIG_SCHED_INFO.
 */
#include "ring.bpf.h"

#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_NOLOAD 0x400	/* with UNINTERRUPTIBLE: an idle kernel thread */

/* Not per CPU: making such a row takes 17 us, and there is one for most processes that end. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, __u32);	/* tgid */
	__type(value, struct culprit_sched_counts);
} sched_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct culprit_sched_counts);
} fresh_counts SEC(".maps");

static __always_inline struct culprit_sched_counts *counts_of(struct task_struct *task)
{
	struct culprit_sched_counts *counts, *fresh;
	__u32 tgid = task->tgid;
	__u32 zero = 0;

	counts = bpf_map_lookup_elem(&sched_counts, &tgid);
	if (counts)
		return counts;
	/* The scratch row stays zero but for these two fields. */
	fresh = bpf_map_lookup_elem(&fresh_counts, &zero);
	if (!fresh)
		return NULL;
	fresh->cgroup_id = get_cgroup_id(task);
	bpf_probe_read_kernel_str(fresh->comm, sizeof(fresh->comm), task->comm);
	/* Another CPU may have made the row meanwhile: full is only what is still missing. */
	bpf_map_update_elem(&sched_counts, &tgid, fresh, BPF_NOEXIST);
	counts = bpf_map_lookup_elem(&sched_counts, &tgid);
	if (!counts)
		count_full(CULPRIT_TABLE_SCHED_COUNTS);
	return counts;
}

/* A thread that ended is freed: after its last moment on a CPU, and out of the iterator's sight. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(on_task_free, struct task_struct *task)
{
	struct culprit_sched_counts *counts;

	if (!task->pid)
		return 0;
	counts = counts_of(task);
	if (!counts)
		return 0;
	__sync_fetch_and_add(&counts->on_cpu_ns, task->se.sum_exec_runtime);
	__sync_fetch_and_add(&counts->run_queue_ns, task->sched_info.run_delay);
	__sync_fetch_and_add(&counts->run_queue_count, task->sched_info.pcount);
	__sync_fetch_and_add(&counts->switches, task->nvcsw + task->nivcsw);
	return 0;
}

SEC("iter/task")
int on_each_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct culprit_task_time time;
	__u32 state;

	if (!task)
		return 0;
	__builtin_memset(&time, 0, sizeof(time));
	state = task->__state;
	time.on_cpu_ns = task->se.sum_exec_runtime;
	time.run_queue_ns = task->sched_info.run_delay;
	time.run_queue_count = task->sched_info.pcount;
	time.switches = task->nvcsw + task->nivcsw;
	time.cgroup_id = get_cgroup_id(task);
	time.tgid = task->tgid;
	time.tid = task->pid;
	time.is_blocked = (state & TASK_UNINTERRUPTIBLE) && !(state & TASK_NOLOAD);
	bpf_probe_read_kernel_str(time.comm, sizeof(time.comm), task->comm);
	bpf_seq_write(ctx->meta->seq, &time, sizeof(time));
	return 0;
}
