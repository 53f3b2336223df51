// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Block I/O: latency, bytes and errors per device, process and operation; slow requests one by one.
 * Write-back is issued by kernel threads, whose tgid says nothing: it is counted under tgid 0.
 * Needs Linux 6.1 and BTF.
 */
#include "latency.bpf.h"
#include "ring.bpf.h"

const volatile __u64 slow_ns = 100000000;

struct start {
	__u64 start_ns;
	__u64 bytes;
	struct culprit_task task;
	__u32 device;
	__u32 op;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);	/* request */
	__type(value, struct start);
} block_starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct culprit_block_key);
	__type(value, struct culprit_block_counts);
} block_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct culprit_block_counts);
} zero_counts SEC(".maps");

SEC("tp_btf/block_rq_issue")
int BPF_PROG(on_block_issue, struct request *rq)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct gendisk *disk = BPF_CORE_READ(rq, q, disk);
	struct start start = {};
	__u64 key = (__u64)rq;
	__u32 op = rq->cmd_flags & 0xff;

	start.start_ns = bpf_ktime_get_ns();
	start.bytes = rq->__data_len;
	start.op = op <= CULPRIT_BLOCK_FLUSH ? op : CULPRIT_BLOCK_OTHER;
	if (disk)
		start.device = BPF_CORE_READ(disk, major) << 20 | BPF_CORE_READ(disk, first_minor);
	if (!(task->flags & PF_KTHREAD))
		fill_task(&start.task);
	if (bpf_map_update_elem(&block_starts, &key, &start, BPF_ANY))
		count_full(CULPRIT_TABLE_BLOCK_STARTS);
	return 0;
}

static __always_inline void report_slow(const struct start *start, __u64 duration)
{
	struct culprit_block_slow_event *e;
	void *ring;

	e = ring_reserve(CULPRIT_EVENT_BLOCK_SLOW, sizeof(*e), &ring);
	if (!e)
		return;
	e->task = start->task;
	e->duration_ns = duration;
	e->bytes = start->bytes;
	e->device = start->device;
	e->op = start->op;
	ring_submit(e, ring);
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_block_done, struct request *rq, int error, unsigned int bytes)
{
	struct culprit_block_counts *counts, *zeros;
	struct culprit_block_key key = {};
	__u64 request = (__u64)rq;
	struct start *start = bpf_map_lookup_elem(&block_starts, &request);
	__u64 duration;
	__u32 zero = 0;

	if (!start)
		return 0;
	if (bytes < rq->__data_len && !(error & 0xff))	/* a part of it; the rest completes later */
		return 0;
	duration = bpf_ktime_get_ns() - start->start_ns;
	key.device = start->device;
	key.tgid = start->task.tgid;
	key.op = start->op;
	counts = bpf_map_lookup_elem(&block_counts, &key);
	if (!counts) {
		zeros = bpf_map_lookup_elem(&zero_counts, &zero);
		if (zeros)
			bpf_map_update_elem(&block_counts, &key, zeros, BPF_NOEXIST);
		counts = bpf_map_lookup_elem(&block_counts, &key);
		if (!counts)
			count_full(CULPRIT_TABLE_BLOCK_COUNTS);
	}
	if (counts) {
		add_latency(&counts->latency, duration);
		counts->bytes += start->bytes;
		if (error & 0xff)	/* blk_status_t */
			counts->errors++;
	}
	if (duration >= slow_ns)
		report_slow(start, duration);
	bpf_map_delete_elem(&block_starts, &request);
	return 0;
}
