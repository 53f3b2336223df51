// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Time of each process: on CPU, waiting for a CPU, asleep, blocked, stopped. Counted at every context switch
 * and wake-up; nothing is sent. Needs Linux 6.1 and BTF.
 *
 *            wake-up            switch in           switch out, runnable
 *   off CPU ────────► runnable ───────────► running ───────────────────► runnable
 *      ▲     += off     ▲       += queue       │       += on CPU
 *      └───────────────────────────────────────┘ switch out, not runnable: += on CPU
 *
 * A thread gathers its times in its own storage and adds them to its process's per-CPU row when it leaves the
 * CPU: one hash look-up a switch. Storage is made where allocating is harmless (at fork, and for threads that
 * existed before by the iterator), never under a run queue's lock. Two switches, two wake-ups and four system
 * calls (`./dev bench syscalls`, context-switch) cost 680 ns more, 940 ns with hash look-ups instead.
 */
#include "ring.bpf.h"

/* Before 5.19 the tracepoint did not pass the state (9c2136be0878): then it is read from the task. */
const volatile bool switch_has_state = true;

enum state {
	RUNNING = 0,	/* also: not known yet */
	RUNNABLE,
	SLEEPING,
	BLOCKED,
	STOPPED,
};

#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_STOPPED_OR_TRACED 0xc
#define TASK_DEAD 0x80
#define TASK_NOLOAD 0x400	/* with UNINTERRUPTIBLE: an idle kernel thread */

/* Of one thread; times since it last left the CPU. */
struct task_time {
	__u64 since_ns;	/* in this state */
	__u64 run_queue_ns;
	__u64 sleep_ns;
	__u64 blocked_ns;
	__u64 stopped_ns;
	__u32 state;
	__u32 queued;	/* 1: it waited for its CPU */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
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
	/* Another CPU may have made the row meanwhile: full is only what is still missing. */
	bpf_map_update_elem(&sched_counts, &tgid, fresh, BPF_NOEXIST);
	counts = bpf_map_lookup_elem(&sched_counts, &tgid);
	if (!counts)
		count_full(CULPRIT_TABLE_SCHED_COUNTS);
	return counts;
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
	struct task_time *time = bpf_task_storage_get(&sched_tasks, task, 0, 0);
	struct culprit_sched_counts *counts = counts_of(task);

	if (counts) {
		counts->on_cpu_ns += on_cpu_ns;
		counts->switches++;
		if (time) {
			counts->run_queue_ns += time->run_queue_ns;
			counts->run_queue_count += time->queued;
			if (time->run_queue_ns > counts->run_queue_max_ns)
				counts->run_queue_max_ns = time->run_queue_ns;
			counts->sleep_ns += time->sleep_ns;
			counts->blocked_ns += time->blocked_ns;
			counts->stopped_ns += time->stopped_ns;
		}
	}
	if (!time)
		return;
	time->since_ns = now;
	time->run_queue_ns = 0;
	time->sleep_ns = 0;
	time->blocked_ns = 0;
	time->stopped_ns = 0;
	time->state = state_of(bits);
	time->queued = 0;
}

SEC("tp_btf/sched_switch")
int on_switch(__u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];
	struct task_struct *next = (struct task_struct *)ctx[2];
	struct culprit_running *cpu;
	struct task_time *time;
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
			bits = 0;
		else if (switch_has_state)
			bits = (__u32)ctx[3];
		else
			bits = prev->__state;
		switched_out(prev, bits, ran, now);
	}
	if (next->pid) {
		time = bpf_task_storage_get(&sched_tasks, next, 0, 0);
		if (time) {
			if (time->state == RUNNABLE && now > time->since_ns) {
				time->run_queue_ns = now - time->since_ns;
				time->queued = 1;
			}
			time->state = RUNNING;
		}
	}
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	struct task_time *time = bpf_task_storage_get(&sched_tasks, task, 0, 0);
	__u64 now, away;

	if (!time || time->state < SLEEPING)
		return 0;
	now = bpf_ktime_get_ns();
	away = now > time->since_ns ? now - time->since_ns : 0;
	if (time->state == SLEEPING)
		time->sleep_ns = away;
	else if (time->state == BLOCKED)
		time->blocked_ns = away;
	else
		time->stopped_ns = away;
	time->since_ns = now;
	time->state = RUNNABLE;
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(on_wakeup_new, struct task_struct *task)
{
	struct task_time *time = bpf_task_storage_get(&sched_tasks, task, 0, 0);

	if (time) {
		time->since_ns = bpf_ktime_get_ns();
		time->state = RUNNABLE;
	}
	return 0;
}

static __always_inline void make_storage(struct task_struct *task)
{
	if (!bpf_task_storage_get(&sched_tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE))
		count_full(CULPRIT_TABLE_SCHED_TASKS);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_task_fork, struct task_struct *parent, struct task_struct *child)
{
	make_storage(child);
	return 0;
}

/* Read once by the sensor, after the hooks above are attached. */
SEC("iter/task")
int on_each_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		make_storage(task);
	return 0;
}
