// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Every TCP socket of the network namespace, as struct culprit_tcp_info, when the sensor reads it. Linux 6.1. */
#include "socket.bpf.h"

SEC("iter/tcp")
int on_tcp_socket(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct culprit_tcp_info info;
	struct tcp_sock *tp;
	const struct sock *sk;
	__u32 state;

	if (!skc)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp)	/* request and time-wait sockets */
		return 0;
	sk = &tp->inet_conn.icsk_inet.sk;
	state = sk->__sk_common.skc_state;
	__builtin_memset(&info, 0, sizeof(info));
	fill_socket(&info.socket, sk, sk->__sk_common.skc_family);
	info.inode = BPF_CORE_READ(sk, sk_socket, file, f_inode, i_ino);
	info.state = state;
	info.uid = ctx->uid;
	info.total_retransmits = tp->total_retrans;
	info.unacked_packets = tp->packets_out;
	if (state == CULPRIT_TCP_LISTEN) {
		info.receive_queue_bytes = sk->sk_ack_backlog;
		info.send_queue_bytes = sk->sk_max_ack_backlog;
	} else {
		info.srtt_us = tp->srtt_us >> 3;
		info.receive_queue_bytes = tp->rcv_nxt - tp->copied_seq;
		info.send_queue_bytes = tp->write_seq - tp->snd_una;
		if ((__s32)info.receive_queue_bytes < 0)
			info.receive_queue_bytes = 0;
		info.positions[CULPRIT_READ] = tp->copied_seq;
		info.positions[CULPRIT_WRITE] = tp->write_seq;
	}
	bpf_seq_write(ctx->meta->seq, &info, sizeof(info));
	return 0;
}
