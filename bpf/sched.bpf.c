// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Time of each process: on CPU, waiting for a CPU, asleep, blocked, stopped. Counted at every context switch
 * and wake-up into a per-CPU row of the process; nothing is sent. Needs Linux 6.1 and BTF.
 *
 *            wake-up            switch in           switch out, runnable
 *   off CPU ────────► runnable ───────────► running ───────────────────► runnable
 *      ▲     += off     ▲       += queue       │       += on CPU
 *      └───────────────────────────────────────┘ switch out, not runnable: += on CPU
 */
#include "ring.bpf.h"

/* Before 5.19 the tracepoint did not pass the state (9c2136be0878): then it is read from the task. */
const volatile bool switch_has_state = true;

enum state {
	RUNNING = 0,
	RUNNABLE,
	SLEEPING,
	BLOCKED,
	STOPPED,
};

#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_STOPPED_OR_TRACED 0xc
#define TASK_DEAD 0x80
#define TASK_NOLOAD 0x400	/* with UNINTERRUPTIBLE: an idle kernel thread */

struct task_time {
	__u64 since_ns;
	__u32 state;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, __u32);	/* pid of a thread */
	__type(value, struct task_time);
} sched_tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, __u32);	/* tgid */
	__type(value, struct culprit_sched_counts);
} sched_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct culprit_running);
} running SEC(".maps");

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
	bpf_probe_read_kernel_str(fresh->comm, sizeof(fresh->comm), task->group_leader->comm);
	if (bpf_map_update_elem(&sched_counts, &tgid, fresh, BPF_NOEXIST))
		count_full(CULPRIT_TABLE_SCHED_COUNTS);
	return bpf_map_lookup_elem(&sched_counts, &tgid);
}

static __always_inline __u32 state_of(__u64 bits)
{
	if (!bits)
		return RUNNABLE;
	if (bits & TASK_STOPPED_OR_TRACED)
		return STOPPED;
	if ((bits & TASK_UNINTERRUPTIBLE) && !(bits & TASK_NOLOAD))
		return BLOCKED;
	return SLEEPING;
}

static __always_inline void switched_out(struct task_struct *task, __u64 bits, __u64 on_cpu_ns, __u64 now)
{
	struct culprit_sched_counts *counts = counts_of(task);
	struct task_time *time, fresh = {};
	__u32 pid = task->pid;

	if (counts) {
		counts->on_cpu_ns += on_cpu_ns;
		counts->switches++;
	}
	if (bits & TASK_DEAD) {
		bpf_map_delete_elem(&sched_tasks, &pid);
		return;
	}
	time = bpf_map_lookup_elem(&sched_tasks, &pid);
	if (time) {
		time->since_ns = now;
		time->state = state_of(bits);
		return;
	}
	fresh.since_ns = now;
	fresh.state = state_of(bits);
	if (bpf_map_update_elem(&sched_tasks, &pid, &fresh, BPF_ANY))
		count_full(CULPRIT_TABLE_SCHED_TASKS);
}

static __always_inline void switched_in(struct task_struct *task, __u64 now)
{
	struct culprit_sched_counts *counts;
	__u32 pid = task->pid;
	struct task_time *time = bpf_map_lookup_elem(&sched_tasks, &pid);
	__s64 waited;

	if (!time)
		return;
	if (time->state == RUNNABLE) {
		waited = now - time->since_ns;
		counts = counts_of(task);
		if (counts && waited >= 0) {
			counts->run_queue_ns += waited;
			counts->run_queue_count++;
			if ((__u64)waited > counts->run_queue_max_ns)
				counts->run_queue_max_ns = waited;
		}
	}
	time->state = RUNNING;
}

SEC("tp_btf/sched_switch")
int on_switch(__u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];
	struct task_struct *next = (struct task_struct *)ctx[2];
	struct culprit_running *cpu;
	__u64 now = bpf_ktime_get_ns();
	__u64 ran = 0;
	__u64 bits;
	__u32 zero = 0;

	cpu = bpf_map_lookup_elem(&running, &zero);
	if (!cpu)
		return 0;
	if (cpu->since_ns)
		ran = now - cpu->since_ns;
	cpu->since_ns = now;
	cpu->tgid = next->tgid;
	if (prev->pid) {
		if (ctx[0] & 0xff)	/* preempted: runnable whatever its state says */
			bits = prev->__state & TASK_DEAD;
		else if (switch_has_state)
			bits = (__u32)ctx[3];
		else
			bits = prev->__state;
		switched_out(prev, bits, ran, now);
	}
	if (next->pid)
		switched_in(next, now);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	__u32 pid = task->pid;
	struct task_time *time = bpf_map_lookup_elem(&sched_tasks, &pid);
	struct culprit_sched_counts *counts;
	__u64 now;
	__s64 away;

	if (!time || time->state < SLEEPING)
		return 0;
	now = bpf_ktime_get_ns();
	away = now - time->since_ns;
	counts = counts_of(task);
	if (counts && away > 0) {
		if (time->state == SLEEPING)
			counts->sleep_ns += away;
		else if (time->state == BLOCKED)
			counts->blocked_ns += away;
		else
			counts->stopped_ns += away;
	}
	time->since_ns = now;
	time->state = RUNNABLE;
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(on_wakeup_new, struct task_struct *task)
{
	struct task_time fresh = {};
	__u32 pid = task->pid;

	fresh.since_ns = bpf_ktime_get_ns();
	fresh.state = RUNNABLE;
	if (bpf_map_update_elem(&sched_tasks, &pid, &fresh, BPF_ANY))
		count_full(CULPRIT_TABLE_SCHED_TASKS);
	return 0;
}
