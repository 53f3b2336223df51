/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rings: how single records leave the kernel. Each CPU (or group of CPUs) has two: a control ring for rare
 * things and a data ring for payload and log lines, so that payload can never push out an exit or an OOM kill.
 *
 * Per kind and CPU: produced = submitted + dropped by reason, exactly. The counters are bumped with atomic
 * adds, since a program may be interrupted on its CPU by another one that reports the same kind.
 * The sensor creates these maps once and every family shares them.
 */
#ifndef CULPRIT_RING_BPF_H
#define CULPRIT_RING_BPF_H

#include "kernel.bpf.h"
#include "culprit_events.h"
#include "tables.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Settings, written by the sensor between open and load. */
const volatile __u32 ring_count = 1;
const volatile __u32 control_wake_bytes = 64 * 1024;	/* a quarter of a ring */
const volatile __u32 data_wake_bytes = 256 * 1024;

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ring);
} control_rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ring);
} data_rings SEC(".maps");

/* struct culprit_kind_counts, row = CPU, column = kind */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CULPRIT_EVENT_KINDS);
	__type(key, __u32);
	__type(value, struct culprit_kind_counts);
} kind_counts SEC(".maps");

/* Updates that found their map full, by enum culprit_table */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CULPRIT_TABLES);
	__type(key, __u32);
	__type(value, __u64);
} table_full SEC(".maps");

static __always_inline void count_full(__u32 table)
{
	__u64 *full = bpf_map_lookup_elem(&table_full, &table);

	if (full)
		__sync_fetch_and_add(full, 1);
}

static __always_inline struct culprit_kind_counts *count_produced(__u32 kind, __u32 cpu)
{
	__u32 key = cpu * CULPRIT_EVENT_KINDS + kind;
	struct culprit_kind_counts *counts = bpf_map_lookup_elem(&kind_counts, &key);

	if (counts)
		__sync_fetch_and_add(&counts->produced, 1);
	return counts;
}

static __always_inline void count_dropped(struct culprit_kind_counts *counts, const __u32 reason)
{
	if (counts)
		__sync_fetch_and_add(&counts->dropped[reason], 1);
}

static __always_inline void *ring_of(void *rings, __u32 cpu)
{
	__u32 key = ring_count > 1 ? cpu % ring_count : 0;

	return bpf_map_lookup_elem(rings, &key);
}

/* Wakes the reader when the ring's fill passes its mark (a window, since the reader moves meanwhile). */
static __always_inline __u64 wake_flags(void *ring, __u32 wake_bytes)
{
	__u64 above = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) - wake_bytes;

	return above < 4096 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void fill_header(struct culprit_header *header, __u32 kind, __u32 size, __u32 cpu,
					__u64 now)
{
	header->time_ns = now;
	header->size = size;
	header->kind = kind;
	header->cpu = cpu;
}

/* Room for a control record with its header filled; NULL and counted if there is none. */
static __always_inline void *ring_reserve(const __u32 kind, const __u64 size, void **ring)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct culprit_kind_counts *counts = count_produced(kind, cpu);
	struct culprit_header *header;

	*ring = ring_of(&control_rings, cpu);
	header = *ring ? bpf_ringbuf_reserve(*ring, size, 0) : NULL;
	if (!header) {
		count_dropped(counts, CULPRIT_DROP_RING_FULL);
		return NULL;
	}
	fill_header(header, kind, size, cpu, bpf_ktime_get_boot_ns());
	return header;
}

static __always_inline void ring_submit(void *record, void *ring)
{
	bpf_ringbuf_submit(record, wake_flags(ring, control_wake_bytes));
}

static __always_inline void fill_task(struct culprit_task *task)
{
	__u64 id = bpf_get_current_pid_tgid();

	task->cgroup_id = bpf_get_current_cgroup_id();
	task->tgid = id >> 32;
	task->tid = (__u32)id;
	bpf_get_current_comm(task->comm, sizeof(task->comm));
}

#endif
