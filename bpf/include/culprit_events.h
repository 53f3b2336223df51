/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Records that the probes share with the daemon. Plain C, included by both sides. Fixed-width fields,
 * largest first, no hidden padding; times are CLOCK_BOOTTIME in nanoseconds. Enumerator values are never
 * reused. The ring does not zero memory: a probe writes every byte of a record.
 *
 * Two ways lead out of the kernel: rings carry single records (struct culprit_header first); per-CPU maps
 * carry counts (struct culprit_*_key and culprit_*_counts), cumulative since load, read by the sensor.
 */
#ifndef CULPRIT_EVENTS_H
#define CULPRIT_EVENTS_H

#ifdef __cplusplus
#include <cstdint>
typedef std::uint64_t culprit_u64;
typedef std::int64_t culprit_s64;
typedef std::uint32_t culprit_u32;
typedef std::int32_t culprit_s32;
typedef std::uint16_t culprit_u16;
typedef std::uint8_t culprit_u8;
#define CULPRIT_ASSERT_SIZE(type, size) static_assert(sizeof(type) == (size))
#else
typedef unsigned long long culprit_u64;
typedef long long culprit_s64;
typedef unsigned int culprit_u32;
typedef int culprit_s32;
typedef unsigned short culprit_u16;
typedef unsigned char culprit_u8;
#define CULPRIT_ASSERT_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)
#endif

#define CULPRIT_EVENTS_VERSION 3
#define CULPRIT_COMM_LEN 16
#define CULPRIT_PATH_LEN 128	/* bytes of a path kept, with its terminating zero */
#define CULPRIT_PAYLOAD_SMALL 64	/* bytes kept of a payload whose start is not an HTTP message */
#define CULPRIT_PAYLOAD_LARGE 512	/* bytes kept of an HTTP message's start */
#define CULPRIT_LINE_MAX 512	/* bytes kept of a write to a log */
#define CULPRIT_LATENCY_BUCKETS 32	/* bucket i counts values in [2^i, 2^(i+1)) microseconds; 0 also below 1 us */

enum culprit_kind {
	CULPRIT_EVENT_NONE = 0,
	CULPRIT_EVENT_EXEC = 1,
	CULPRIT_EVENT_EXIT = 2,
	CULPRIT_EVENT_FORK = 3,
	CULPRIT_EVENT_OOM = 4,
	CULPRIT_EVENT_SIGNAL = 5,
	CULPRIT_EVENT_TCP_STATE = 6,
	CULPRIT_EVENT_TCP_RETRANSMIT = 7,
	CULPRIT_EVENT_TCP_RESET = 8,
	CULPRIT_EVENT_SYSCALL_SLOW = 9,
	CULPRIT_EVENT_PAYLOAD = 10,
	CULPRIT_EVENT_LOG = 11,
	CULPRIT_EVENT_BLOCK_SLOW = 12,
	CULPRIT_EVENT_KINDS	/* one more than the last */
};

/* First in every ring record. */
struct culprit_header {
	culprit_u64 time_ns;
	culprit_u32 size;	/* of the whole record, bytes */
	culprit_u16 kind;	/* enum culprit_kind */
	culprit_u16 cpu;
};
CULPRIT_ASSERT_SIZE(struct culprit_header, 16);

/* Who was running. tgid is what user space calls a pid. cgroup_id is the cgroup v2 id (inode). */
struct culprit_task {
	culprit_u64 cgroup_id;
	culprit_u32 tgid;
	culprit_u32 tid;
	char comm[CULPRIT_COMM_LEN];
};
CULPRIT_ASSERT_SIZE(struct culprit_task, 32);

/* A TCP socket. IPv4 addresses are IPv4-mapped IPv6. Ports in host order. */
struct culprit_socket {
	culprit_u64 sock;	/* kernel address: the identity while the socket lives */
	culprit_u8 local_addr[16];
	culprit_u8 remote_addr[16];
	culprit_u32 netns;	/* inode of the network namespace, 0 if unknown */
	culprit_u16 local_port;
	culprit_u16 remote_port;
};
CULPRIT_ASSERT_SIZE(struct culprit_socket, 48);

/* A process began to run another program. */
struct culprit_exec_event {
	struct culprit_header header;
	struct culprit_task task;
	culprit_u64 start_time_ns;	/* of the process */
	culprit_u32 ppid;
	culprit_u32 uid;
	char filename[CULPRIT_PATH_LEN];	/* as given to execve */
};
CULPRIT_ASSERT_SIZE(struct culprit_exec_event, 192);

/* A process (its last thread group leader) ended. */
struct culprit_exit_event {
	struct culprit_header header;
	struct culprit_task task;
	culprit_u64 start_time_ns;
	culprit_u32 ppid;
	culprit_u32 exit_code;	/* as wait(2) gives it: status << 8 | core dumped << 7 | signal */
};
CULPRIT_ASSERT_SIZE(struct culprit_exit_event, 64);

/* A process made another one (threads are not reported). task = the parent. */
struct culprit_fork_event {
	struct culprit_header header;
	struct culprit_task task;
	culprit_u64 start_time_ns;	/* of the child */
	culprit_u32 child_tgid;
	culprit_u32 reserved;	/* 0 */
};
CULPRIT_ASSERT_SIZE(struct culprit_fork_event, 64);

/* The kernel chose a victim for want of memory. task = whose allocation failed. */
struct culprit_oom_event {
	struct culprit_header header;
	struct culprit_task task;
	culprit_u64 victim_cgroup_id;
	culprit_u64 anon_rss_bytes;
	culprit_u64 file_rss_bytes;
	culprit_u32 victim_tgid;
	culprit_u32 reserved;	/* 0 */
	char victim_comm[CULPRIT_COMM_LEN];
};
CULPRIT_ASSERT_SIZE(struct culprit_oom_event, 96);

/* A signal that stops, continues or ends a process was sent. task = the sender (pid 0: the kernel). */
struct culprit_signal_event {
	struct culprit_header header;
	struct culprit_task task;
	culprit_u32 target_tgid;
	culprit_s32 signal;
	char target_comm[CULPRIT_COMM_LEN];
};
CULPRIT_ASSERT_SIZE(struct culprit_signal_event, 72);

/* enum of include/net/tcp_states.h, numbers are kernel ABI */
enum culprit_tcp_state {
	CULPRIT_TCP_ESTABLISHED = 1,
	CULPRIT_TCP_SYN_SENT = 2,
	CULPRIT_TCP_SYN_RECV = 3,
	CULPRIT_TCP_FIN_WAIT1 = 4,
	CULPRIT_TCP_FIN_WAIT2 = 5,
	CULPRIT_TCP_TIME_WAIT = 6,
	CULPRIT_TCP_CLOSE = 7,
	CULPRIT_TCP_CLOSE_WAIT = 8,
	CULPRIT_TCP_LAST_ACK = 9,
	CULPRIT_TCP_LISTEN = 10,
	CULPRIT_TCP_CLOSING = 11
};

/*
 * A TCP socket changed its state. Sent for LISTEN, SYN_SENT, ESTABLISHED and CLOSE. task is the owner where
 * the kernel runs in its context (listen, connect, close) or where SYN_SENT remembered it; else tgid is 0.
 */
struct culprit_tcp_state_event {
	struct culprit_header header;
	struct culprit_task task;
	struct culprit_socket socket;
	culprit_u64 connect_ns;	/* from SYN_SENT to this, 0 if it was no connect of ours */
	culprit_u16 old_state;
	culprit_u16 new_state;
	culprit_s32 error;	/* sk_err: positive errno, 0 if none */
	culprit_u32 positions[2];	/* of the stream by enum culprit_direction, as culprit_payload_event's; an end takes one */
};
CULPRIT_ASSERT_SIZE(struct culprit_tcp_state_event, 120);

/* A segment was sent again. task is who happened to run: not the owner. */
struct culprit_tcp_retransmit_event {
	struct culprit_header header;
	struct culprit_socket socket;
	culprit_u32 state;
	culprit_u32 srtt_us;	/* smoothed round trip, microseconds */
};
CULPRIT_ASSERT_SIZE(struct culprit_tcp_retransmit_event, 72);

struct culprit_tcp_reset_event {
	struct culprit_header header;
	struct culprit_socket socket;
	culprit_u32 state;
	culprit_u32 received;	/* 1: the peer sent it, 0: we sent it */
};
CULPRIT_ASSERT_SIZE(struct culprit_tcp_reset_event, 72);

/* Which calls are timed. Values are ours, not system call numbers. */
enum culprit_timed_call {
	CULPRIT_CALL_FSYNC = 1,
	CULPRIT_CALL_FDATASYNC = 2,
	CULPRIT_CALL_OPEN = 3,
	CULPRIT_CALLS
};

/* One timed call took longer than the slow limit (a setting of the sensor, 100 ms unless told). */
struct culprit_syscall_slow_event {
	struct culprit_header header;	/* time_ns: when it returned */
	struct culprit_task task;
	culprit_u64 duration_ns;
	culprit_s64 result;	/* return value, negative errno on failure */
	culprit_u32 call;	/* enum culprit_timed_call */
	culprit_s32 fd;	/* its argument, -1 if it has none */
};
CULPRIT_ASSERT_SIZE(struct culprit_syscall_slow_event, 72);

/* One block request took longer than the slow limit. task = who issued it, as far as known. */
struct culprit_block_slow_event {
	struct culprit_header header;
	struct culprit_task task;
	culprit_u64 duration_ns;	/* issue to completion */
	culprit_u64 bytes;
	culprit_u32 device;	/* major << 20 | minor, the kernel's dev_t */
	culprit_u32 op;	/* enum culprit_block_op */
};
CULPRIT_ASSERT_SIZE(struct culprit_block_slow_event, 72);

enum culprit_direction {
	CULPRIT_READ = 0,	/* the process received */
	CULPRIT_WRITE = 1	/* the process sent */
};

/*
 * One successful read or write on a TCP socket of a watched process, at its return. data holds the first
 * `captured` bytes: up to CULPRIT_PAYLOAD_LARGE if they start like an HTTP/1 message, else up to
 * CULPRIT_PAYLOAD_SMALL. A record's size is offsetof(data) + CULPRIT_PAYLOAD_SMALL or _LARGE; bytes past
 * `captured` are zero. bytes == 0 with CULPRIT_READ: the peer closed its side.
 */
struct culprit_payload_event {
	struct culprit_header header;
	struct culprit_task task;
	struct culprit_socket socket;
	culprit_u64 bytes;	/* that the call moved */
	culprit_s32 fd;
	culprit_u16 captured;
	culprit_u16 direction;	/* enum culprit_direction */
	culprit_u32 positions[2];	/* by direction: how far that stream is after the call (TCP sequence); 0: unknown */
	culprit_u64 run_queue_ns;	/* that the thread has waited for a CPU since it began; 0: unknown, or never */
	culprit_u8 data[CULPRIT_PAYLOAD_LARGE];
};
CULPRIT_ASSERT_SIZE(struct culprit_payload_event, 128 + CULPRIT_PAYLOAD_LARGE);

/*
 * One write of a watched process to standard output, standard error or a regular file opened for appending.
 * A record's size is always the whole struct; bytes past `captured` are zero. One write may hold several
 * lines or a part of one.
 */
struct culprit_log_event {
	struct culprit_header header;
	struct culprit_task task;
	culprit_u64 inode;
	culprit_u64 bytes;	/* that the call wrote */
	culprit_u32 captured;
	culprit_s32 fd;
	culprit_u32 is_append_file;	/* 1: regular file with O_APPEND, 0: descriptor 1 or 2 of another kind */
	culprit_u32 device;	/* of a regular file, major << 20 | minor, the kernel's dev_t; 0: something else, or an older recording */
	culprit_u8 data[CULPRIT_LINE_MAX];
};
CULPRIT_ASSERT_SIZE(struct culprit_log_event, 80 + CULPRIT_LINE_MAX);

/* ---- counts: cumulative since the probes were loaded ---- */

struct culprit_latency {
	culprit_u64 count;
	culprit_u64 sum_ns;
	culprit_u64 max_ns;	/* since load */
	culprit_u32 buckets[CULPRIT_LATENCY_BUCKETS];
};
CULPRIT_ASSERT_SIZE(struct culprit_latency, 24 + 4 * CULPRIT_LATENCY_BUCKETS);

/* Time of a process, all its threads together, those that ended too. Key: tgid. */
struct culprit_sched_counts {
	culprit_u64 on_cpu_ns;
	culprit_u64 run_queue_ns;	/* runnable but waiting for a CPU; counted when it gets one */
	culprit_u64 run_queue_count;	/* times it got one */
	culprit_u64 blocked_ns;	/* off CPU, uninterruptible: disk, memory, kernel locks; sampled by the sensor */
	culprit_u64 switches;
	culprit_u64 cgroup_id;
	char comm[CULPRIT_COMM_LEN];
};
CULPRIT_ASSERT_SIZE(struct culprit_sched_counts, 64);

/* System calls that failed. EAGAIN, EINPROGRESS, EINTR, ETIMEDOUT of futex and restarts are not failures. */
struct culprit_syscall_error_key {
	culprit_u64 cgroup_id;
	culprit_u32 tgid;
	culprit_u16 syscall;	/* number of this architecture */
	culprit_u16 error;	/* positive errno */
};
CULPRIT_ASSERT_SIZE(struct culprit_syscall_error_key, 16);

struct culprit_syscall_error_counts {
	culprit_u64 count;
	culprit_u64 last_ns;
};

struct culprit_timed_call_key {
	culprit_u32 tgid;
	culprit_u32 call;	/* enum culprit_timed_call */
};
/* value: struct culprit_latency */

enum culprit_block_op {
	CULPRIT_BLOCK_READ = 0,
	CULPRIT_BLOCK_WRITE = 1,
	CULPRIT_BLOCK_FLUSH = 2,
	CULPRIT_BLOCK_OTHER = 3
};

/* Block I/O. tgid is who issued it; 0 for kernel threads (write-back), whose tgid says nothing. */
struct culprit_block_key {
	culprit_u32 device;
	culprit_u32 tgid;
	culprit_u32 op;
	culprit_u32 reserved;	/* 0 */
};
struct culprit_block_counts {
	struct culprit_latency latency;	/* issue to completion */
	culprit_u64 bytes;
	culprit_u64 errors;
};

/* A TCP socket as the iterator saw it; not cumulative. */
struct culprit_tcp_info {
	struct culprit_socket socket;
	culprit_u64 inode;	/* of the socket file: joins /proc/PID/fd */
	culprit_u32 state;
	culprit_u32 uid;
	culprit_u32 srtt_us;
	culprit_u32 total_retransmits;
	culprit_u32 unacked_packets;
	culprit_u32 receive_queue_bytes;	/* waiting to be read by the process; for LISTEN: connections to accept */
	culprit_u32 send_queue_bytes;	/* written but not acknowledged; for LISTEN: backlog limit */
	culprit_u32 positions[2];	/* as in culprit_payload_event; for LISTEN: 0 */
	culprit_u32 reserved;	/* 0 */
};
CULPRIT_ASSERT_SIZE(struct culprit_tcp_info, 96);

/* Why a record was not handed over, per ring and CPU. */
enum culprit_drop {
	CULPRIT_DROP_RING_FULL = 0,
	CULPRIT_DROP_BUDGET = 1,	/* payload beyond the records a second that the configuration allows */
	CULPRIT_DROP_FAULT = 2,	/* user memory could not be read */
	CULPRIT_DROPS
};

/* Per CPU and kind. produced = submitted + the drops, exactly. */
struct culprit_kind_counts {
	culprit_u64 produced;
	culprit_u64 dropped[CULPRIT_DROPS];
};

#endif
