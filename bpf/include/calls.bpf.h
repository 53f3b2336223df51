/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which system calls we look at, by this architecture's numbers, and how to read their arguments. */
#ifndef CULPRIT_CALLS_BPF_H
#define CULPRIT_CALLS_BPF_H

#include "kernel.bpf.h"
#include "culprit_events.h"

/* What a call is to us. Timed calls carry enum culprit_timed_call. */
enum call_class {
	CLASS_NONE = 0,
	CLASS_FSYNC = CULPRIT_CALL_FSYNC,
	CLASS_FDATASYNC = CULPRIT_CALL_FDATASYNC,
	CLASS_OPEN = CULPRIT_CALL_OPEN,
	CLASS_TIMED_LAST = CLASS_OPEN,
	CLASS_READ,	/* (fd, buffer, size): read, recvfrom */
	CLASS_READV,	/* (fd, iovec, count): readv */
	CLASS_RECVMSG,	/* (fd, msghdr, flags) */
	CLASS_WRITE,	/* (fd, buffer, size): write */
	CLASS_SENDTO,	/* the same with sockets only */
	CLASS_WRITEV,
	CLASS_SENDMSG,
	CLASS_SENDFILE,	/* (out_fd, in_fd, ...): bytes without data */
	CLASS_RECVFROM,	/* read with flags as the fourth argument */
};

#define CALLS_MAX 512	/* numbers above are not ours: a power of two, for the verifier */

#if defined(__TARGET_ARCH_x86)
#define NR_futex 202
static const __u8 call_classes[CALLS_MAX] = {
	[0] = CLASS_READ,
	[1] = CLASS_WRITE,
	[2] = CLASS_OPEN,
	[19] = CLASS_READV,
	[20] = CLASS_WRITEV,
	[40] = CLASS_SENDFILE,
	[44] = CLASS_SENDTO,
	[45] = CLASS_RECVFROM,
	[46] = CLASS_SENDMSG,
	[47] = CLASS_RECVMSG,
	[74] = CLASS_FSYNC,
	[75] = CLASS_FDATASYNC,
	[85] = CLASS_OPEN,	/* creat */
	[257] = CLASS_OPEN,	/* openat */
	[437] = CLASS_OPEN,	/* openat2 */
};
#define CALL_NR(regs) ((__u32)(regs)->orig_ax)
#define CALL_ARG0(regs) ((regs)->di)
#define CALL_ARG1(regs) ((regs)->si)
#define CALL_ARG2(regs) ((regs)->dx)
#define CALL_ARG3(regs) ((regs)->r10)
/* 32-bit calls have other numbers; the flag stands in thread_info until the next system call. */
#define IS_COMPAT(task) ((task)->thread_info.status & TS_COMPAT)
#elif defined(__TARGET_ARCH_arm64)
#define NR_futex 98
static const __u8 call_classes[CALLS_MAX] = {
	[56] = CLASS_OPEN,	/* openat */
	[63] = CLASS_READ,
	[64] = CLASS_WRITE,
	[65] = CLASS_READV,
	[66] = CLASS_WRITEV,
	[71] = CLASS_SENDFILE,
	[82] = CLASS_FSYNC,
	[83] = CLASS_FDATASYNC,
	[206] = CLASS_SENDTO,
	[207] = CLASS_RECVFROM,
	[211] = CLASS_SENDMSG,
	[212] = CLASS_RECVMSG,
	[437] = CLASS_OPEN,	/* openat2 */
};
#define CALL_NR(regs) ((__u32)(regs)->syscallno)
#define CALL_ARG0(regs) ((regs)->orig_x0)	/* x0 holds the result by now */
#define CALL_ARG1(regs) ((regs)->regs[1])
#define CALL_ARG2(regs) ((regs)->regs[2])
#define CALL_ARG3(regs) ((regs)->regs[3])
#define IS_COMPAT(task) 0
#else
#error "system call numbers of this architecture are missing"
#endif

#define ERRNO_EINTR 4
#define ERRNO_EAGAIN 11
#define ERRNO_ETIMEDOUT 110
#define ERRNO_EINPROGRESS 115
#define ERRNO_RESTART_FIRST 512	/* ERESTARTSYS ... ERESTART_RESTARTBLOCK: the kernel's own */
#define ERRNO_RESTART_LAST 516

static __always_inline bool is_failure(__u32 nr, __u32 error)
{
	if (error == ERRNO_EAGAIN || error == ERRNO_EINTR || error == ERRNO_EINPROGRESS)
		return false;
	if (error >= ERRNO_RESTART_FIRST && error <= ERRNO_RESTART_LAST)
		return false;
	return !(error == ERRNO_ETIMEDOUT && nr == NR_futex);
}

#endif
