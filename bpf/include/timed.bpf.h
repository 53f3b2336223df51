/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Calls that are timed: their start stays with the thread, their duration goes into timed_calls, and one that took
 * too long is also reported singly. The sensor creates timed_calls once; the families that time share it.
 */
#ifndef CULPRIT_TIMED_BPF_H
#define CULPRIT_TIMED_BPF_H

#include "latency.bpf.h"
#include "ring.bpf.h"

const volatile __u64 slow_ns = 100000000;
const volatile __u32 ignored_tgids[CULPRIT_IGNORED_MAX] = {};	/* our own processes */

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);	/* CLOCK_MONOTONIC at entry, 0 outside of timed calls */
} call_starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, CULPRIT_TIMED_CALLS_MAX);
	__type(key, struct culprit_timed_call_key);
	__type(value, struct culprit_latency);
} timed_calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct culprit_latency);	/* stays zero */
} zero_latencies SEC(".maps");

static __always_inline bool is_ignored(__u32 tgid)
{
	int i;

	for (i = 0; i < CULPRIT_IGNORED_MAX; i++)
		if (ignored_tgids[i] == tgid)
			return true;
	return false;
}

static __always_inline void start_timed(void)
{
	__u64 *start = bpf_task_storage_get(&call_starts, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (start)
		*start = bpf_ktime_get_ns();
	else
		count_full(CULPRIT_TABLE_CALL_STARTS);
}

static __always_inline void report_slow(__u64 duration, long result, __u32 call, int fd)
{
	struct culprit_syscall_slow_event *e;
	void *ring;

	e = ring_reserve(CULPRIT_EVENT_SYSCALL_SLOW, sizeof(*e), &ring);
	if (!e)
		return;
	fill_task(&e->task);
	e->duration_ns = duration;
	e->result = result;
	e->call = call;
	e->fd = fd;
	ring_submit(e, ring);
}

/* Ends what start_timed() began on this thread; `counted` false: somebody else times this one. */
static __always_inline void finish_timed(struct task_struct *task, __u32 call, long result, int fd, bool counted)
{
	struct culprit_timed_call_key key;
	struct culprit_latency *latency, *none;
	__u32 zero = 0;
	__u64 duration;
	__u64 *start = bpf_task_storage_get(&call_starts, task, 0, 0);

	if (!start || !*start)
		return;
	duration = bpf_ktime_get_ns() - *start;
	*start = 0;
	if (!counted)
		return;
	key.tgid = bpf_get_current_pid_tgid() >> 32;
	key.call = call;
	latency = bpf_map_lookup_elem(&timed_calls, &key);
	if (!latency) {
		none = bpf_map_lookup_elem(&zero_latencies, &zero);
		if (none)
			bpf_map_update_elem(&timed_calls, &key, none, BPF_NOEXIST);
		latency = bpf_map_lookup_elem(&timed_calls, &key);
		if (!latency)
			count_full(CULPRIT_TABLE_TIMED_CALLS);
	}
	if (latency)
		add_latency(latency, duration);
	if (duration >= slow_ns)
		report_slow(duration, result, call, fd);
}

#endif
