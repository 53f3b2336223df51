#include "daemon/explain/failure_modes.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace culprit::explain {

namespace {

const std::vector<FailureMode>& table() {
  static const std::vector<FailureMode> modes = {
      // Process life
      {"linux-kernel/process-killed", {"lx-process-killed", "process-killed", "killed", "service-down", "linux-kernel/killed"}, "killed", "start it again; ask who sent the signal", 0.3},
      {"linux-kernel/process-crash", {"lx-segfault", "process-crash", "crash"}, "crashed", "look for a core file and the last log lines", 0.2},
      {"linux-kernel/process-exit", {"sd-unit-failed", "process-exit", "service-down"}, "exited", "read its last log lines, then start it again", 0},
      {"linux-kernel/process-stopped", {"lx-process-stopped", "process-stopped", "sigstop", "service-hung"}, "stopped by a signal", "continue it: kill -CONT", 0.3},
      {"linux-kernel/service-gone", {"service-down", "connection-refused"}, "nothing listens any more", "start it again", 0},
      {"linux-kernel/restart-loop", {"restart-loop", "k8s-crashloop"}, "restarts again and again", "read the log of the last run", 0},
      {"linux-kernel/cgroup-oom", {"lx-cgroup-oom", "k8s-oomkilled", "oom", "app-oom"}, "killed at its memory limit", "raise the limit or find what grows", 0.3},
      {"linux-kernel/oom-kill", {"lx-oom-kill", "oom"}, "killed for want of memory", "find what uses the memory", 0.2},
      // CPU
      {"linux-kernel/cpu-saturation", {"lx-cpu-saturation", "linux-kernel/cpu-contention", "linux-kernel/cpu-hog", "cpu-contention", "cpu-hog", "noisy-neighbour"}, "takes the CPUs", "stop it, or give it less weight: renice, cpu.weight", 0.2},
      {"linux-kernel/cpu-throttled", {"k8s-cpu-throttle", "cpu-throttle"}, "is throttled at its CPU quota", "raise the quota (cpu.max)", 0},
      {"application/cpu-growth", {"hot-loop", "cpu-growth"}, "uses more CPU by itself", "profile it: perf top -p", -0.6},
      // Disk
      {"linux-kernel/disk-saturation", {"lx-slow-disk", "linux-kernel/disk-contention", "linux-kernel/io-contention", "disk-contention", "slow-disk", "io-contention", "disk-hog"}, "keeps the disk busy", "stop it, or give it less weight: ionice, io.weight", 0.2},
      {"linux-kernel/disk-slow", {"linux-kernel/slow-disk", "lx-slow-disk", "slow-disk", "aws-ebs-burst", "io-throttle"}, "the disk answers slowly", "look at the device and at I/O limits", 0},
      {"linux-kernel/disk-full", {"lx-disk-full", "disk-full", "enospc", "pg-disk-full", "postgresql/disk-full", "mysql-disk-full"}, "no space left on device", "free space: du -xh --max-depth=1", 0.3},
      {"linux-kernel/inode-exhausted", {"lx-inode-exhausted"}, "no inodes left", "delete small files", 0},
      {"linux-kernel/fs-readonly", {"lx-fs-readonly"}, "the file system is read-only", "dmesg; check the disk before remounting", 0},
      {"linux-kernel/disk-io-error", {"lx-disk-io-error"}, "the disk reports I/O errors", "dmesg; replace the disk", 0},
      // Limits
      {"linux-kernel/fd-limit", {"lx-fd-limit", "fd-leak", "emfile", "too-many-open-files", "nginx-too-many-files", "go-fd-exhausted", "rmq-fd-exhausted"}, "is out of file descriptors", "restart it, then find what it does not close: ls -l /proc/PID/fd", 0.3},
      {"linux-kernel/memory-limit", {"memory-limit", "enomem", "lx-swap-thrash", "redis-bgsave-fork"}, "is at its memory limit", "raise the limit or find what grows", 0},
      {"linux-kernel/port-exhaustion", {"lx-port-exhaustion", "azure-snat"}, "is out of local ports", "reuse connections; widen ip_local_port_range", 0},
      {"linux-kernel/accept-queue", {"accept-queue-overflow", "listen-backlog", "lx-syn-flood"}, "does not accept connections fast enough", "more workers, or a larger backlog", -0.3},
      // Network
      {"linux-kernel/tcp-retrans", {"lx-tcp-retrans", "network-loss", "packet-loss"}, "packets get lost", "look at the link: ip -s link, tc qdisc", 0},
      {"linux-kernel/network-unreachable", {"network-unreachable", "connect-timeout"}, "cannot be reached", "check routes and firewall", -0.2},
      {"linux-kernel/tcp-reset", {"tcp-reset", "nginx-upstream-reset"}, "connections are reset", "who closes first: culprit events --name tcp.reset", -0.4},
      {"linux-kernel/network-delay", {"network-latency"}, "the network is slow", "look at the link: tc qdisc, ip -s link", -0.2},
      // Application and load
      {"application/bad-release", {"bad-release", "application/regression", "application/slow-release", "deploy/bad-release", "change/bad-release"}, "new version is slower or fails", "go back to the version before", 0.2},
      {"application/config-change", {"application/bad-config", "config-change"}, "configuration changed", "undo the change", 0},
      {"application/slow-code", {"slow-code", "application/slow", "app-slow", "internal-wait"}, "spends the time in itself", "see where it waits: /proc/PID/stack, a profiler", -0.4},
      {"application/errors", {"app-errors"}, "answers with errors by itself", "read its log", -0.4},
      {"application/load-spike", {"app-load-spike", "traffic-surge", "overload"}, "gets more requests than before", "add capacity or limit the rate", 0},
      {"application/dependency-slow", {"application/dependency-timeouts", "app-dependency-timeouts", "slow-callee"}, "answers slowly", "look inside it", -0.5},
      {"application/dependency-hung", {"dependency-hung", "service-hung", "process-stopped"}, "does not answer", "look inside it: is it stopped, or waiting?", -0.3},
      {"application/dependency-errors", {"app-dependency-errors"}, "answers with errors", "read its log", -0.5},
      // Databases and caches
      {"postgresql/lock-wait", {"pg-lock-wait", "lock-wait", "lock-contention"}, "sessions wait for a lock", "SELECT pid, pg_blocking_pids(pid), query FROM pg_stat_activity WHERE wait_event_type = 'Lock'", 0.2},
      {"postgresql/deadlock", {"pg-deadlock"}, "transactions deadlock", "order the locks alike in both", 0},
      {"postgresql/too-many-clients", {"pg-too-many-clients", "too-many-clients", "connection-exhaustion"}, "all connection slots are taken", "SELECT application_name, client_addr, state, count(*) FROM pg_stat_activity GROUP BY 1,2,3", 0.2},
      {"postgresql/auth-failed", {"pg-auth-failed"}, "refuses the password", "check the password and pg_hba.conf", 0},
      {"postgresql/slow-query", {"pg-slow-query", "slow-query"}, "queries work harder than before", "EXPLAIN ANALYZE the query; ANALYZE the table", -0.4},
      {"postgresql/checkpoint-storm", {"pg-checkpoint-storm"}, "checkpoints too often", "raise max_wal_size", -0.2},
      {"postgresql/oom-backend", {"pg-oom-backend"}, "a backend was killed, all sessions were reset", "find the query that used the memory", 0},
      {"mysql/lock-wait", {"mysql-lock-wait-timeout", "mysql-metadata-lock", "lock-wait"}, "sessions wait for a lock", "SELECT * FROM sys.innodb_lock_waits", 0.2},
      {"mysql/too-many-connections", {"mysql-too-many-connections"}, "all connections are taken", "SHOW PROCESSLIST", 0.2},
      {"mysql/deadlock", {"mysql-deadlock"}, "transactions deadlock", "SHOW ENGINE INNODB STATUS", 0},
      {"redis/slow-command", {"redis-slow-command"}, "a slow command blocks it", "redis-cli SLOWLOG GET 10", 0},
      {"redis/oom-noeviction", {"redis-oom-noeviction"}, "is at maxmemory and refuses writes", "redis-cli INFO memory", 0},
      {"redis/maxclients", {"redis-maxclients"}, "has no client slots left", "redis-cli CLIENT LIST", 0},
      {"redis/misconf-rdb", {"redis-misconf-rdb", "redis-bgsave-fork"}, "refuses writes after a failed snapshot", "read its log; free disk or memory", 0},
      {"redis/loading", {"redis-loading"}, "loads its data", "wait, or find who restarted it", -0.2},
      {"redis/readonly-replica", {"redis-readonly-replica"}, "is a read-only replica", "point writers at the primary", 0},
      {"nginx/worker-connections", {"nginx-worker-connections"}, "worker connections are used up", "raise worker_connections", 0},
      {"nginx/upstream-timeout", {"nginx-upstream-timeout"}, "its upstream timed out", "look at the upstream", 0},
      {"nginx/upstream-refused", {"nginx-upstream-refused"}, "its upstream refused", "look at the upstream", 0},
      {"nginx/upstream-reset", {"nginx-upstream-reset"}, "its upstream closed early", "look at the upstream", 0},
      {"nginx/no-live-upstreams", {"nginx-no-live-upstreams"}, "no upstream is alive", "look at the upstream", 0},
      {"envoy/uh", {"envoy-uh"}, "no upstream is healthy", "look at the upstream", -1.0},
      {"kubernetes/probe-failed", {"k8s-probe-failed"}, "does not answer its health check", "ask the probe by hand", -1.0},
      {"tls/cert-expired", {"tls-cert-expired"}, "a certificate has expired", "renew the certificate", 0},
      {"tls/unknown-ca", {"tls-unknown-ca"}, "a certificate's issuer is unknown", "install the issuer's certificate", 0},
      {"coredns/resolve-fail", {"dns-resolve-fail"}, "names cannot be resolved", "getent hosts NAME; /etc/resolv.conf", 0},
      {"python-wsgi/worker-timeout", {"py-gunicorn-timeout"}, "its workers time out", "look at what the workers wait for", 0},
      {"jvm/heap-oom", {"jvm-heap-oom"}, "is out of heap", "take a heap dump; raise -Xmx", 0},
      {"jvm/pool-timeout", {"jvm-hikari-timeout"}, "waits for a pooled connection", "look at the database", 0},
      {"unknown/unknown", {}, "unknown", "", -1.0},
  };
  return modes;
}

constexpr std::array kSigns = std::to_array<LogSign>({
    {"too many clients already", "postgresql/too-many-clients", 1.0},
    {"remaining connection slots are reserved", "postgresql/too-many-clients", 1.0},
    {"still waiting for", "postgresql/lock-wait", 0.9},
    {"Process holding the lock:", "postgresql/lock-wait", 1.0},
    {"canceling statement due to lock timeout", "postgresql/lock-wait", 0.9},
    {"deadlock detected", "postgresql/deadlock", 0.9},
    {"password authentication failed for user", "postgresql/auth-failed", 1.0},
    {"no pg_hba.conf entry for host", "postgresql/auth-failed", 1.0},
    {"checkpoints are occurring too frequently", "postgresql/checkpoint-storm", 0.7},
    {"was terminated by signal 9: Killed", "postgresql/oom-backend", 0.7},
    {"Lock wait timeout exceeded", "mysql/lock-wait", 1.0},
    {"Waiting for table metadata lock", "mysql/lock-wait", 0.9},
    {"Deadlock found when trying to get lock", "mysql/deadlock", 1.0},
    {"Too many connections", "mysql/too-many-connections", 0.7},
    {"No space left on device", "linux-kernel/disk-full", 1.0},
    {"could not extend file", "linux-kernel/disk-full", 0.6},
    {"Disk quota exceeded", "linux-kernel/disk-full", 0.9},
    {"Read-only file system", "linux-kernel/fs-readonly", 1.0},
    {"Input/output error", "linux-kernel/disk-io-error", 0.8},
    {"Too many open files", "linux-kernel/fd-limit", 1.0},
    {"too many open files", "linux-kernel/fd-limit", 1.0},
    {"annot assign requested address", "linux-kernel/port-exhaustion", 1.0},
    {"Cannot allocate memory", "linux-kernel/memory-limit", 0.8},
    {"MemoryError", "linux-kernel/memory-limit", 0.8},
    {"OOM command not allowed", "redis/oom-noeviction", 1.0},
    {"max number of clients reached", "redis/maxclients", 1.0},
    {"MISCONF Redis is configured to save RDB", "redis/misconf-rdb", 1.0},
    {"Redis is loading the dataset in memory", "redis/loading", 0.8},
    {"can't write against a read only replica", "redis/readonly-replica", 1.0},
    {"worker_connections are not enough", "nginx/worker-connections", 1.0},
    {"upstream timed out (110", "nginx/upstream-timeout", 1.0},
    {"(111: Connection refused) while connecting to upstream", "nginx/upstream-refused", 1.0},
    {"upstream prematurely closed connection", "nginx/upstream-reset", 0.9},
    {"(104: Connection reset by peer) while", "nginx/upstream-reset", 0.8},
    {"no live upstreams while connecting", "nginx/no-live-upstreams", 1.0},
    {"certificate has expired", "tls/cert-expired", 1.0},
    {"certificate signed by unknown authority", "tls/unknown-ca", 1.0},
    {"unable to get local issuer certificate", "tls/unknown-ca", 0.9},
    {"Temporary failure in name resolution", "coredns/resolve-fail", 0.9},
    {"no such host", "coredns/resolve-fail", 0.7},
    {"WORKER TIMEOUT (pid:", "python-wsgi/worker-timeout", 1.0},
    {"OutOfMemoryError: Java heap space", "jvm/heap-oom", 1.0},
    {"Connection is not available, request timed out after", "jvm/pool-timeout", 1.0},
});

struct Program {
  std::string_view part, middleware;
};
constexpr std::array kPrograms = std::to_array<Program>({
    {"pgbouncer", "pgbouncer"}, {"postgres", "postgresql"}, {"postmaster", "postgresql"}, {"mysqld", "mysql"},
    {"mariadb", "mysql"},       {"mysql", "mysql"},         {"redis", "redis"},           {"valkey", "redis"},
    {"memcached", "memcached"}, {"nginx", "nginx"},         {"mongod", "mongodb"},        {"haproxy", "haproxy"},
    {"envoy", "envoy"},         {"httpd", "apache-httpd"},  {"apache2", "apache-httpd"},  {"kafka", "kafka"},
    {"rabbitmq", "rabbitmq"},   {"etcd", "etcd"},           {"clickhouse", "clickhouse"}, {"elasticsearch", "elasticsearch"},
    {"coredns", "coredns"},     {"zookeeper", "zookeeper"}, {"nats", "nats"},             {"cassandra", "cassandra"},
});

}  // namespace

std::span<const FailureMode> failure_modes() { return table(); }

const FailureMode* find_mode(std::string_view id_or_name) {
  for (const FailureMode& mode : table()) {
    if (mode.id == id_or_name) return &mode;
  }
  for (const FailureMode& mode : table()) {
    if (std::ranges::find(mode.also, id_or_name) != mode.also.end()) return &mode;
  }
  return nullptr;
}

const FailureMode& failure_mode(std::string_view id) {
  const FailureMode* mode = find_mode(id);
  return mode != nullptr ? *mode : table().back();
}

std::span<const LogSign> log_signs() { return kSigns; }

std::string_view middleware_of(std::string_view program) {
  std::string lower(program);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const Program& known : kPrograms) {
    if (lower.find(known.part) != std::string::npos) return known.middleware;
  }
  return {};
}

bool is_database(std::string_view middleware) {
  return middleware == "postgresql" || middleware == "mysql" || middleware == "mongodb" || middleware == "clickhouse";
}

}  // namespace culprit::explain
