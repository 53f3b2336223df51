// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How long fsync, fdatasync and synchronous writes take, without a program on every system call: at the one
 * function of the VFS that all of them pass, or, on kernels without fentry, at ext4's own tracepoints. On such
 * a kernel other file systems are timed at the system call, while those are observed (syscall.bpf.c). Linux 6.1.
 *
 * Compilers put that function into the two system calls where it becomes short (Debian's 6.1: into fdatasync, which
 * PostgreSQL calls), so that these have programs of their own. Where both see a call, the inner one ends it.
 */
#include "calls.bpf.h"
#include "timed.bpf.h"

/* The descriptor of the call that this thread is in, -1 if it is no fsync. */
static __always_inline int descriptor_of(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u32 nr = CALL_NR(regs) & (CALLS_MAX - 1);

	if (call_classes[nr] == CLASS_FSYNC || call_classes[nr] == CLASS_FDATASYNC)
		return (int)CALL_ARG0(regs);
	return -1;
}

static __always_inline void finish_sync(int datasync, int result)
{
	struct task_struct *task = bpf_get_current_task_btf();

	finish_timed(task, datasync ? CULPRIT_CALL_FDATASYNC : CULPRIT_CALL_FSYNC, result, descriptor_of(task), true);
}

SEC("fentry/vfs_fsync_range")
int BPF_PROG(on_sync_start, struct file *file, long long start, long long end, int datasync)
{
	if (!is_ignored(bpf_get_current_pid_tgid() >> 32))
		start_timed();
	return 0;
}

SEC("fexit/vfs_fsync_range")
int BPF_PROG(on_sync_end, struct file *file, long long start, long long end, int datasync, int result)
{
	finish_sync(datasync, result);
	return 0;
}

#if defined(__TARGET_ARCH_arm64)
#define CALL(name) "__arm64_sys_" name
#else
#define CALL(name) "__x64_sys_" name
#endif

SEC("fentry/" CALL("fsync"))
int BPF_PROG(on_fsync_start)
{
	if (!is_ignored(bpf_get_current_pid_tgid() >> 32))
		start_timed();
	return 0;
}

SEC("fexit/" CALL("fsync"))
int BPF_PROG(on_fsync_end, struct pt_regs *regs, long result)
{
	finish_sync(0, result);
	return 0;
}

SEC("fentry/" CALL("fdatasync"))
int BPF_PROG(on_fdsync_start)
{
	if (!is_ignored(bpf_get_current_pid_tgid() >> 32))
		start_timed();
	return 0;
}

SEC("fexit/" CALL("fdatasync"))
int BPF_PROG(on_fdsync_end, struct pt_regs *regs, long result)
{
	finish_sync(1, result);
	return 0;
}

/* The tracepoint at the end does not say which of the two it was: the start remembers. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} ext4_datasyncs SEC(".maps");

SEC("tp_btf/ext4_sync_file_enter")
int BPF_PROG(on_ext4_sync, struct file *file, int datasync)
{
	__u32 *kept;

	if (is_ignored(bpf_get_current_pid_tgid() >> 32))
		return 0;
	kept = bpf_task_storage_get(&ext4_datasyncs, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = datasync;
	start_timed();
	return 0;
}

SEC("tp_btf/ext4_sync_file_exit")
int BPF_PROG(on_ext4_synced, struct inode *inode, int result)
{
	__u32 *kept = bpf_task_storage_get(&ext4_datasyncs, bpf_get_current_task_btf(), 0, 0);

	finish_sync(kept ? *kept : 0, result);
	return 0;
}
