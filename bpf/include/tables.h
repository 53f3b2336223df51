/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The maps whose updates may find no room, and values that only probes and sensor share. */
#ifndef CULPRIT_TABLES_H
#define CULPRIT_TABLES_H

#include "culprit_events.h"

enum culprit_table {
	CULPRIT_TABLE_WATCHED = 0,
	CULPRIT_TABLE_SCHED_COUNTS = 1,
	CULPRIT_TABLE_SYSCALL_ERRORS = 2,
	CULPRIT_TABLE_CALL_STARTS = 3,
	CULPRIT_TABLE_TIMED_CALLS = 4,
	CULPRIT_TABLE_BLOCK_STARTS = 5,
	CULPRIT_TABLE_BLOCK_COUNTS = 6,
	CULPRIT_TABLE_TCP_OWNERS = 7,
	CULPRIT_TABLES
};

/* Flags of watched_tgids and watched_cgroups */
#define CULPRIT_WATCH_PAYLOAD 1
#define CULPRIT_WATCH_LOGS 2

#define CULPRIT_IGNORED_MAX 4	/* own processes whose system calls are not observed */

#define CULPRIT_BUDGET_WINDOW_SHIFT 30	/* of the records that a CPU captures: 2^30 ns of CLOCK_BOOTTIME */
#define CULPRIT_TIMED_CALLS_MAX 16384	/* rows of timed_calls */

/* Which syncs of files are timed without system calls. */
enum culprit_syncs {
	CULPRIT_SYNCS_NONE = 0,
	CULPRIT_SYNCS_EXT4 = 1,
	CULPRIT_SYNCS_ALL = 2
};

/* Of one thread that exists, as the iterator writes it; cumulative over its life. */
struct culprit_task_time {
	culprit_u64 on_cpu_ns;
	culprit_u64 run_queue_ns;
	culprit_u64 run_queue_count;
	culprit_u64 switches;
	culprit_u64 cgroup_id;
	culprit_u32 tgid;
	culprit_u32 tid;
	culprit_u32 is_blocked;	/* 1: it is in uninterruptible sleep now */
	char comm[CULPRIT_COMM_LEN];
	culprit_u32 reserved;	/* 0 */
};
CULPRIT_ASSERT_SIZE(struct culprit_task_time, 72);

#endif
