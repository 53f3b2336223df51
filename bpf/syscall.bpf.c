// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * System calls at their return: failures counted, open timed (and fsync where sync.bpf.c cannot), payload of watched
 * processes on TCP sockets, their log lines. io_uring, splice, sendmmsg and recvmmsg do not pass here. Linux 6.1, BTF.
 *
 * These two programs run at every system call of the host, and the kernel's slow path for traced calls comes on
 * top: an empty one adds 78 ns to getppid (Linux 6.18, 2 vCPU), two add 135 to 145. So the sensor attaches them only
 * when it pays (daemon/sensor/call_schedule.h): on_sys_exit while somebody is watched, both in short
 * windows and while the daemon looks closely. User memory that is not resident cannot be read here and is counted
 * as a fault: only devices that ignore what is written to them (/dev/null) leave it so.
 */
#include "calls.bpf.h"
#include "socket.bpf.h"
#include "timed.bpf.h"
#include "watch.bpf.h"

const volatile __u32 payload_budget = 1000;	/* payload and log records per CPU and window */
const volatile __u32 watch_all = 0;	/* CULPRIT_WATCH_* of every process */
const volatile __u32 syncs_timed = CULPRIT_SYNCS_NONE;	/* by sync.bpf.c */

#define IOVECS_MAX 4	/* of a call are looked at */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct culprit_syscall_error_key);
	__type(value, struct culprit_syscall_error_counts);
} syscall_errors SEC(".maps");

/* Windows (__u64) in which a CPU has no budget left. Each wakes the sensor, which detaches on_sys_exit for the rest of it. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);	/* the sensor makes it, of a page */
} budget_spent SEC(".maps");

/* Calls that on_sys_enter saw. A window of it ends early when they were many (daemon/sensor/call_schedule.h). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} entries_seen SEC(".maps");

/* Scratch of one CPU. The kernel does not run one program twice on a CPU at a time. */
struct scratch {
	__u64 window;	/* of the budget */
	__u64 used;	/* of it; more than there is, once the sensor was told */
	struct user_iovec iovecs[IOVECS_MAX];
	__u8 data[3 * CULPRIT_PAYLOAD_LARGE];	/* a third more than is used: of a bound Linux 6.1 keeps only the highest bit */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/*
 * Bounds a length in the very register that is used. Of a comparison clang bounds a copy as well, and Linux 6.1 does not
 * carry what it learns of a copy over.
 */
#define BOUND(value, max) asm volatile("if %0 <= %1 goto +1; %0 = %1" : "+r"(value) : "i"(max))

/* ---- failures ---- */

static __always_inline void count_error(__u32 nr, __u32 error, __u32 tgid)
{
	struct culprit_syscall_error_counts *counts, first;
	struct culprit_syscall_error_key key;
	__u64 now = bpf_ktime_get_boot_ns();

	key.cgroup_id = bpf_get_current_cgroup_id();
	key.tgid = tgid;
	key.syscall = nr;
	key.error = error;
	counts = bpf_map_lookup_elem(&syscall_errors, &key);
	if (counts) {
		counts->count++;
		counts->last_ns = now;
		return;
	}
	first.count = 1;
	first.last_ns = now;
	if (!bpf_map_update_elem(&syscall_errors, &key, &first, BPF_NOEXIST))
		return;
	counts = bpf_map_lookup_elem(&syscall_errors, &key);
	if (counts) {	/* another CPU made the row meanwhile */
		counts->count++;
		counts->last_ns = now;
	} else {
		count_full(CULPRIT_TABLE_SYSCALL_ERRORS);
	}
}

/* ---- timed calls ---- */

SEC("tp_btf/sys_enter")
int BPF_PROG(on_sys_enter, struct pt_regs *regs, long nr)
{
	const __u32 first = 0;
	__u64 *seen;
	__u32 class;

	seen = bpf_map_lookup_elem(&entries_seen, &first);
	if (seen)
		(*seen)++;
	if ((__u64)nr >= CALLS_MAX)
		return 0;
	class = call_classes[nr & (CALLS_MAX - 1)];
	if (class == CLASS_NONE || class > CLASS_TIMED_LAST)
		return 0;
	if (class != CLASS_OPEN && syncs_timed == CULPRIT_SYNCS_ALL)
		return 0;
	if (is_ignored(bpf_get_current_pid_tgid() >> 32))
		return 0;
	start_timed();
	return 0;
}

/* ---- payload and log lines ---- */

/* What one call moved: its direction, and up to IOVECS_MAX pieces of user memory. */
struct transfer {
	__u64 bytes;
	__u64 base;	/* of the first piece */
	__u64 first;	/* bytes of the first piece that were moved */
	__u32 pieces;
	__u32 direction;
	int fd;
};

/*
 * Who spends a quarter of the budget in the first 1/32 of a window would spend all of it in an eighth: three times more of so much
 * say little more, and cost whoever shares the CPUs with their reader.
 */
static __always_inline bool within_budget(struct scratch *scratch, __u64 now)
{
	const __u64 length = 1ULL << CULPRIT_BUDGET_WINDOW_SHIFT;
	__u64 limit = (now & (length - 1)) < length / 32 ? payload_budget / 4 + 1 : payload_budget;
	__u64 window = now >> CULPRIT_BUDGET_WINDOW_SHIFT;

	if (scratch->window != window) {
		scratch->window = window;
		scratch->used = 0;
	}
	if (scratch->used >= limit) {
		if (scratch->used <= payload_budget) {
			scratch->used = (__u64)payload_budget + 1;
			bpf_ringbuf_output(&budget_spent, &window, sizeof(window), BPF_RB_FORCE_WAKEUP);
		}
		return false;
	}
	scratch->used++;
	return true;
}

static __always_inline bool starts_like_http(__u32 word)
{
#define WORD(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)
	return word == WORD('H', 'T', 'T', 'P') || word == WORD('G', 'E', 'T', ' ') ||
	       word == WORD('P', 'O', 'S', 'T') || word == WORD('P', 'U', 'T', ' ') ||
	       word == WORD('H', 'E', 'A', 'D') || word == WORD('D', 'E', 'L', 'E') ||
	       word == WORD('O', 'P', 'T', 'I') || word == WORD('P', 'A', 'T', 'C');
}

/* Copies the start of what was moved, of at most `room` bytes (a power of two), zeroes the rest. */
static __always_inline long copy_moved(__u8 *to, const __u32 room, const struct transfer *t,
				       struct scratch *scratch, __u32 *captured)
{
	__u32 have = 0;
	__u32 want, at;
	__u64 size;
	int i;

	if (t->pieces <= 1) {
		__builtin_memset(to, 0, room);
		want = t->bytes < room ? t->bytes : room;
		*captured = want;
		if (want == room)
			return bpf_probe_read_user(to, room, (void *)t->base);
		barrier_var(want);	/* or clang drops the next line, and with it the bound */
		want &= room - 1;
		return want ? bpf_probe_read_user(to, want, (void *)t->base) : 0;
	}
	/* Several pieces meet in scratch memory of twice the size, where the verifier can see that they fit. */
	__builtin_memset(scratch->data, 0, room);
	for (i = 0; i < IOVECS_MAX; i++) {
		if ((__u32)i >= t->pieces || have >= room)
			break;
		size = scratch->iovecs[i].len;
		if (size > t->bytes - have)
			size = t->bytes - have;
		if (size > room - have)
			size = room - have;
		BOUND(size, CULPRIT_PAYLOAD_LARGE);
		at = have;
		barrier_var(at);	/* as above */
		at &= CULPRIT_PAYLOAD_LARGE - 1;
		if (size && bpf_probe_read_user(scratch->data + at, size, (void *)scratch->iovecs[i].base))
			return -1;
		have += size;
	}
	*captured = have;
	return bpf_probe_read_kernel(to, room, scratch->data);
}

/*
 * Reads the iovecs of readv, writev, recvmsg and sendmsg. False: user memory could not be read, and the
 * caller counts it.
 */
static __always_inline bool gather(struct transfer *t, struct scratch *scratch, __u64 iov, __u64 count)
{
	__u32 size;
	int i;

	if (!count)
		return true;
	BOUND(count, IOVECS_MAX);
	size = (__u32)count * sizeof(struct user_iovec);
	if (size > sizeof(scratch->iovecs) || bpf_probe_read_user(scratch->iovecs, size, (void *)iov))
		return false;
	t->pieces = count;
	/* One non-empty piece is the common case: then no scratch is needed. */
	for (i = 0; i < IOVECS_MAX; i++) {
		if ((__u32)i < t->pieces && scratch->iovecs[i].len) {
			t->base = scratch->iovecs[i].base;
			if (scratch->iovecs[i].len >= t->bytes)
				t->pieces = 1;
			break;
		}
	}
	return true;
}

/* A descriptor's file, NULL if there is none. */
static __always_inline struct file *file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = task->files->fdt;
	struct file *file = NULL;

	if (fd >= table->max_fds)	/* also where there is no table: it reads as 0 */
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &table->fd[fd]);
	return file;
}

/* What a descriptor stands for, as far as it matters here. */
struct target {
	struct sock *sk;	/* of a socket */
	__u64 inode;
	__u32 device;	/* of a regular file, else 0 */
	__u32 mode;	/* its type, S_IFMT */
	__u32 flags;	/* of the open file */
	__u16 family;
	__u16 protocol;
	bool known;	/* sk was made known to the verifier: cast it again to read it */
};

#define KNOWN(type, pointer) ((struct type *)bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(struct type)))

static __always_inline void look_at(struct target *target, struct file *file)
{
	target->sk = NULL;
	target->known = bpf_ksym_exists(bpf_rdonly_cast);
	if (target->known) {
		struct file *known = KNOWN(file, file);

		target->mode = known->f_inode->i_mode & S_IFMT;
		target->inode = known->f_inode->i_ino;
		target->flags = known->f_flags;
		target->device = target->mode == S_IFREG ? known->f_inode->i_sb->s_dev : 0;
		if (target->mode == S_IFSOCK) {
			struct sock *sk = KNOWN(socket, known->private_data)->sk;

			target->sk = sk;
			target->family = sk->__sk_common.skc_family;
			target->protocol = sk->sk_protocol;
		}
		return;
	}
	target->mode = BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT;
	target->inode = BPF_CORE_READ(file, f_inode, i_ino);
	target->flags = BPF_CORE_READ(file, f_flags);
	target->device = target->mode == S_IFREG ? BPF_CORE_READ(file, f_inode, i_sb, s_dev) : 0;
	if (target->mode == S_IFSOCK) {
		struct socket *socket = BPF_CORE_READ(file, private_data);
		struct sock *sk = BPF_CORE_READ(socket, sk);	/* through target it would ask the kernel for struct target */

		target->sk = sk;
		target->family = BPF_CORE_READ(sk, __sk_common.skc_family);
		target->protocol = BPF_CORE_READ(sk, sk_protocol);
	}
}

/*
 * How far both streams are, so that the daemon sees which bytes it was not shown (a full ring, a spent budget, programs
 * that were detached meanwhile) instead of taking an answer for that to another request.
 */
static __always_inline void fill_positions(const struct target *target, __u32 positions[2])
{
	const struct tcp_sock *tp = (const struct tcp_sock *)target->sk;

	if (target->known) {
		tp = KNOWN(tcp_sock, target->sk);
		positions[CULPRIT_READ] = tp->copied_seq;
		positions[CULPRIT_WRITE] = tp->write_seq;
	} else {
		positions[CULPRIT_READ] = BPF_CORE_READ(tp, copied_seq);
		positions[CULPRIT_WRITE] = BPF_CORE_READ(tp, write_seq);
	}
}

/* What the kernel sums up for this thread by itself; the difference of two calls is what it waited between them. */
static __always_inline __u64 get_run_queue_ns(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return bpf_core_field_exists(task->sched_info.run_delay) ? task->sched_info.run_delay : 0;
}

static __always_inline void report_payload(const struct transfer *t, bool readable, const struct target *target,
					   struct scratch *scratch)
{
	const __u32 head = __builtin_offsetof(struct culprit_payload_event, data);
	__u32 cpu = bpf_get_smp_processor_id();
	struct culprit_kind_counts *counts = count_produced(CULPRIT_EVENT_PAYLOAD, cpu);
	struct culprit_payload_event *e;
	__u64 now = bpf_ktime_get_boot_ns();
	__u32 word = 0, captured = 0;
	void *ring;
	bool large;

	if (!within_budget(scratch, now)) {
		count_dropped(counts, CULPRIT_DROP_BUDGET);
		return;
	}
	if (!readable || (t->bytes >= 4 && t->pieces && bpf_probe_read_user(&word, 4, (void *)t->base))) {
		count_dropped(counts, CULPRIT_DROP_FAULT);
		return;
	}
	large = t->bytes > CULPRIT_PAYLOAD_SMALL && starts_like_http(word);
	ring = ring_of(&data_rings, cpu);
	if (!ring) {
		count_dropped(counts, CULPRIT_DROP_RING_FULL);
		return;
	}
	/* The verifier wants one constant size per reservation. */
#define REPORT(room)                                                                                    \
	do {                                                                                            \
		e = bpf_ringbuf_reserve(ring, head + (room), 0);                                        \
		if (!e) {                                                                               \
			count_dropped(counts, CULPRIT_DROP_RING_FULL);                                  \
			return;                                                                         \
		}                                                                                       \
		if (!t->pieces) {                                                                       \
			__builtin_memset(e->data, 0, room);                                             \
		} else if (copy_moved(e->data, room, t, scratch, &captured)) {                          \
			bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);                                       \
			count_dropped(counts, CULPRIT_DROP_FAULT);                                      \
			return;                                                                         \
		}                                                                                       \
		fill_header(&e->header, CULPRIT_EVENT_PAYLOAD, head + (room), cpu, now);                \
		fill_task(&e->task);                                                                    \
		if (target->known)                                                                      \
			fill_known_socket(&e->socket, KNOWN(sock, target->sk), target->family);         \
		else                                                                                    \
			fill_socket(&e->socket, target->sk, target->family);                            \
		e->bytes = t->bytes;                                                                    \
		e->fd = t->fd;                                                                          \
		e->captured = captured;                                                                 \
		e->direction = t->direction;                                                            \
		fill_positions(target, e->positions);                                                   \
		e->run_queue_ns = get_run_queue_ns();                                                   \
		bpf_ringbuf_submit(e, wake_flags(ring, data_wake_bytes));                               \
	} while (0)
	if (large)
		REPORT(CULPRIT_PAYLOAD_LARGE);
	else
		REPORT(CULPRIT_PAYLOAD_SMALL);
#undef REPORT
}

static __always_inline void report_log(const struct transfer *t, bool readable, const struct target *target, bool append,
				       struct scratch *scratch)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct culprit_kind_counts *counts = count_produced(CULPRIT_EVENT_LOG, cpu);
	struct culprit_log_event *e;
	__u64 now = bpf_ktime_get_boot_ns();
	void *ring;

	if (!within_budget(scratch, now)) {
		count_dropped(counts, CULPRIT_DROP_BUDGET);
		return;
	}
	if (!readable) {
		count_dropped(counts, CULPRIT_DROP_FAULT);
		return;
	}
	ring = ring_of(&data_rings, cpu);
	e = ring ? bpf_ringbuf_reserve(ring, sizeof(*e), 0) : NULL;
	if (!e) {
		count_dropped(counts, CULPRIT_DROP_RING_FULL);
		return;
	}
	if (copy_moved(e->data, CULPRIT_LINE_MAX, t, scratch, &e->captured)) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		count_dropped(counts, CULPRIT_DROP_FAULT);
		return;
	}
	fill_header(&e->header, CULPRIT_EVENT_LOG, sizeof(*e), cpu, now);
	fill_task(&e->task);
	e->inode = target->inode;
	e->bytes = t->bytes;
	e->fd = t->fd;
	e->is_append_file = append;
	e->device = target->device;
	bpf_ringbuf_submit(e, wake_flags(ring, data_wake_bytes));
}

/* Whether sync.bpf.c times the fsync of this file. */
static __always_inline bool is_timed_sync(struct task_struct *task, __u32 fd)
{
	struct file *file;

	if (syncs_timed != CULPRIT_SYNCS_EXT4)
		return syncs_timed == CULPRIT_SYNCS_ALL;
	file = file_of(task, fd);
	return file && BPF_CORE_READ(file, f_inode, i_sb, s_magic) == EXT4_SUPER_MAGIC;
}

/* Fills the transfer from the call's arguments. False: this call tells us nothing. */
static __always_inline bool read_arguments(struct transfer *t, struct pt_regs *regs, __u32 class, long result,
					   struct scratch *scratch, bool *readable)
{
	struct user_msghdr_head message;
	__u64 base = CALL_ARG1(regs);
	__u64 size = CALL_ARG2(regs);

	t->fd = (int)CALL_ARG0(regs);
	t->bytes = result;
	t->base = base;
	t->pieces = 1;
	t->direction = CULPRIT_WRITE;
	*readable = true;
	switch (class) {
	case CLASS_RECVFROM:
		if (CALL_ARG3(regs) & (MSG_PEEK | MSG_ERRQUEUE))
			return false;
		/* fallthrough */
	case CLASS_READ:
		t->direction = CULPRIT_READ;
		if (!size)
			return false;
		break;
	case CLASS_RECVMSG:
		if (size & (MSG_PEEK | MSG_ERRQUEUE))	/* its flags */
			return false;
		/* fallthrough */
	case CLASS_READV:
		t->direction = CULPRIT_READ;
		break;
	case CLASS_SENDFILE:
		t->pieces = 0;
		break;
	}
	if (!result) {
		t->pieces = 0;
		return t->direction == CULPRIT_READ;
	}
	if (class == CLASS_RECVMSG || class == CLASS_SENDMSG) {
		*readable = !bpf_probe_read_user(&message, sizeof(message), (void *)base) &&
			    gather(t, scratch, message.iov, message.iovlen);
	} else if (class == CLASS_READV || class == CLASS_WRITEV) {
		*readable = gather(t, scratch, base, size);
	}
	return true;
}

static __always_inline void observe_io(struct task_struct *task, struct pt_regs *regs, __u32 class, long result,
				       __u32 flags)
{
	struct transfer t;
	struct target target;
	struct scratch *scratch;
	struct file *file;
	__u32 zero = 0;
	bool readable, append;
	__u32 fd = (__u32)CALL_ARG0(regs);

	file = file_of(task, fd);
	if (!file)
		return;
	look_at(&target, file);
	if (target.mode == S_IFSOCK) {
		if (!target.sk)
			return;
		if ((target.family == AF_INET || target.family == AF_INET6) && target.protocol == IPPROTO_TCP) {
			if (!(flags & CULPRIT_WATCH_PAYLOAD))
				return;
			scratch = bpf_map_lookup_elem(&scratches, &zero);
			if (scratch && read_arguments(&t, regs, class, result, scratch, &readable))
				report_payload(&t, readable, &target, scratch);
			return;
		}
	}
	if (!(flags & CULPRIT_WATCH_LOGS) || (class != CLASS_WRITE && class != CLASS_WRITEV) || !result)
		return;
	append = target.mode == S_IFREG && (target.flags & O_APPEND);
	if (!append && fd != 1 && fd != 2)
		return;
	scratch = bpf_map_lookup_elem(&scratches, &zero);
	if (scratch && read_arguments(&t, regs, class, result, scratch, &readable))
		report_log(&t, readable, &target, append, scratch);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long result)
{
	__u32 nr = CALL_NR(regs);
	bool failed = (__u64)result >= (__u64)-4095;
	struct task_struct *task;
	__u32 class, tgid;
	__u32 flags = watch_all;
	__u32 *watched;
	__u64 id;

	if (nr >= CALLS_MAX)
		return 0;
	class = call_classes[nr & (CALLS_MAX - 1)];
	if (class == CLASS_NONE && !failed)
		return 0;
	if (failed && class > CLASS_TIMED_LAST && -result == ERRNO_EAGAIN)
		return 0;	/* an empty socket: the most common failure */
	id = bpf_get_current_pid_tgid();
	tgid = id >> 32;
	if (!failed && class > CLASS_TIMED_LAST) {
		watched = bpf_map_lookup_elem(&watched_tgids, &tgid);
		if (watched)
			flags |= *watched;
		if (!flags)
			return 0;
	}
	if (is_ignored(tgid))
		return 0;
	task = bpf_get_current_task_btf();
	if (IS_COMPAT(task))
		return 0;
	if (failed && is_failure(nr, -result))
		count_error(nr, -result, tgid);
	if (class == CLASS_NONE)
		return 0;
	if (class == CLASS_OPEN)
		finish_timed(task, class, result, -1, true);
	else if (class <= CLASS_TIMED_LAST)
		finish_timed(task, class, result, (int)CALL_ARG0(regs), !is_timed_sync(task, (__u32)CALL_ARG0(regs)));
	else if (!failed)
		observe_io(task, regs, class, result, flags);
	return 0;
}
