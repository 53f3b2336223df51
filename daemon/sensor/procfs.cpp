#include "daemon/sensor/procfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <fmt/format.h>
#include <set>

#include "daemon/base/clock.h"
#include "daemon/base/fd.h"
#include "daemon/base/handle.h"

namespace culprit::sensor {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kCmdlineBytesMax = 4096;
constexpr std::size_t kFileBytesMax = 1 << 20;
constexpr std::size_t kSocketsMax = 200'000;
constexpr std::size_t kProcessesMax = 100'000;
constexpr std::size_t kFilesystemsMax = 128;
constexpr std::size_t kCgroupFoldersMax = 4096;

using Folder = Handle<DIR, closedir>;

Result<std::string> read_file(const fs::path& path, std::size_t bytes_max = kFileBytesMax) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return fail_errno(errno, "open '" + path.string() + "'");
  std::string text;
  char buffer[8192];
  while (text.size() < bytes_max) {
    const ssize_t bytes = read(fd.get(), buffer, std::min(sizeof(buffer), bytes_max - text.size()));
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return fail_errno(errno, "read '" + path.string() + "'");
    if (bytes == 0) break;
    text.append(buffer, static_cast<std::size_t>(bytes));
  }
  return text;
}

std::string read_link(const fs::path& path) {
  std::string target(4096, '\0');
  const ssize_t bytes = readlink(path.c_str(), target.data(), target.size());
  target.resize(bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
  return target;
}

template <typename T>
T number(std::string_view text, T otherwise = 0) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  T value{};
  return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc() ? value : otherwise;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const auto end = text.find(separator);
    if (end != 0) parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return parts;
}

// "key value" lines, or "key: value".
std::string_view value_of(std::string_view text, std::string_view key) {
  for (const auto line : split(text, '\n')) {
    if (line.starts_with(key) && line.size() > key.size() && !std::isalnum(static_cast<unsigned char>(line[key.size()])) &&
        line[key.size()] != '_') {
      auto value = line.substr(key.size() + 1);
      while (!value.empty() && std::isspace(static_cast<unsigned char>(value.front()))) value.remove_prefix(1);
      return value;
    }
  }
  return {};
}

// mountinfo writes blanks as \040.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

struct Mount {
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::string point;
  std::string type;
  std::string source;
  std::string_view options;        // of the mount
  std::string_view super_options;  // of the file system: v1 controllers stand here
};

// One line of mountinfo: id parent major:minor root point options [optional]... - type source super
bool parse_mount(std::string_view line, Mount& mount) {
  const auto words = split(line, ' ');
  const auto dash = std::find(words.begin(), words.end(), "-");
  if (words.size() < 10 || words.end() - dash < 4) return false;
  const auto colon = words[2].find(':');
  if (colon == std::string_view::npos) return false;
  mount.major = number<std::uint32_t>(words[2]);
  mount.minor = number<std::uint32_t>(words[2].substr(colon + 1));
  mount.point = unescape(words[4]);
  mount.options = words[5];
  mount.type = dash[1];
  mount.source = unescape(dash[2]);
  mount.super_options = dash[3];
  return true;
}

bool has_option(std::string_view options, std::string_view name) {
  const auto all = split(options, ',');
  return std::find(all.begin(), all.end(), name) != all.end();
}

bool is_storage(std::string_view type) {
  static const std::set<std::string_view> kinds = {"ext2", "ext3", "ext4",  "xfs",  "btrfs", "f2fs", "vfat",
                                                   "zfs",  "jfs",  "ntfs3", "exfat", "bcachefs", "tmpfs", "overlay"};
  return kinds.contains(type);
}

bool is_interpreter(std::string_view name) {
  for (const std::string_view prefix :
       {"python", "perl", "ruby", "node", "nodejs", "php", "bash", "dash", "sh", "zsh", "lua", "Rscript", "java",
        "pypy", "deno", "bun"}) {
    if (!name.starts_with(prefix)) continue;
    const auto rest = name.substr(prefix.size());
    if (rest.find_first_not_of("0123456789.-") == std::string_view::npos) return true;
  }
  return false;
}

// Folders below proc that are processes.
template <typename F>
void each_process(const fs::path& proc, F each) {
  const Folder folder(opendir(proc.c_str()));
  if (!folder) return;
  while (const dirent* entry = readdir(folder.get())) {
    if (std::isdigit(static_cast<unsigned char>(entry->d_name[0])) == 0) continue;
    each(number<std::uint32_t>(entry->d_name));
  }
}

std::int64_t mtime_ns(const struct stat& status) {
  return status.st_mtim.tv_sec * kNsPerSecond + status.st_mtim.tv_nsec;
}

std::uint64_t limit(std::string_view text) {
  const auto value = number<std::uint64_t>(text, kNoLimit);
  return value >= (1ULL << 62) ? kNoLimit : value;  // v1 writes "no limit" as the largest page count
}

std::uint32_t count_fds(const fs::path& folder_path) {
  struct stat status {};
  // Since Linux 6.2 the size of this folder is the number of descriptors (f1f1f2569901).
  if (stat(folder_path.c_str(), &status) == 0 && status.st_size > 0) {
    return static_cast<std::uint32_t>(status.st_size);
  }
  const Folder folder(opendir(folder_path.c_str()));
  if (!folder) return 0;
  std::uint32_t count = 0;
  while (const dirent* entry = readdir(folder.get())) count += entry->d_name[0] != '.';
  return count;
}

std::uint64_t fd_limit(const fs::path& process) {
  const auto limits = read_file(process / "limits", 8192);
  if (!limits) return 0;
  const auto words = split(value_of(*limits, "Max open files"), ' ');
  if (words.empty()) return 0;
  return words[0] == "unlimited" ? kNoLimit : number<std::uint64_t>(words[0]);
}

bool valid_cgroup_path(const std::string& path) {
  return path.starts_with('/') && path.find("/../") == std::string::npos && !path.ends_with("/..") &&
         path.find('\0') == std::string::npos && path.size() < 4096;
}

}  // namespace

Procfs::Procfs(Roots roots) : roots_(std::move(roots)), tick_ns_(kNsPerSecond / sysconf(_SC_CLK_TCK)) {
  const auto text = read_file(roots_.proc / "self/mountinfo");
  if (!text) return;
  for (const auto line : split(*text, '\n')) {
    Mount mount;
    if (!parse_mount(line, mount)) continue;
    if (mount.type == "cgroup2" && cgroup2_.empty()) cgroup2_ = mount.point;
    if (mount.type != "cgroup") continue;
    if (has_option(mount.super_options, "memory")) cgroup_memory_ = mount.point;
    if (has_option(mount.super_options, "cpu")) cgroup_cpu_ = mount.point;
  }
}

// "pid (comm) S ppid ...": comm may hold anything, so the last ')' ends it.
void Procfs::read_stat(std::uint32_t tgid, std::string_view text, ProcessInfo& info) const {
  const auto open = text.find('(');
  const auto close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return;
  info.tgid = tgid;
  info.comm = text.substr(open + 1, close - open - 1);
  const auto fields = split(text.substr(close + 1), ' ');  // fields[0] is field 3 of proc(5)
  if (fields.size() < 22) return;
  info.state = fields[0][0];
  info.ppid = number<std::uint32_t>(fields[1]);
  info.threads = number<std::uint32_t>(fields[17]);
  info.start_time_ns = std::clamp<std::int64_t>(number<std::int64_t>(fields[19]), 0, INT64_MAX / tick_ns_) * tick_ns_;
  info.rss_bytes = number<std::uint64_t>(fields[21]) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

void Procfs::read_cgroups(std::uint32_t tgid, std::string& v2, std::string& memory) const {
  const auto text = read_file(of(tgid) / "cgroup", 16 * 1024);
  if (!text) return;
  for (const auto line : split(*text, '\n')) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    if (line.starts_with("0::")) v2 = line.substr(second + 1);
    if (has_option(controllers, "memory")) memory = line.substr(second + 1);
  }
}

void Procfs::read_executable(std::uint32_t tgid, ProcessInfo& info) const {
  struct stat status {};
  if (stat((of(tgid) / "exe").c_str(), &status) == 0) {
    info.exe_inode = status.st_ino;
    info.exe_device = status.st_dev;
    info.exe_size = static_cast<std::uint64_t>(status.st_size);
    info.exe_mtime_ns = mtime_ns(status);
  }
  if (!is_interpreter(fs::path(info.exe).filename().string())) return;
  for (std::size_t i = 1; i < info.cmdline.size(); ++i) {
    const std::string& word = info.cmdline[i];
    if (word == "-c" || word == "-e") return;  // the program is in the command line itself
    if (word.empty() || word[0] == '-') continue;
    const fs::path script = word[0] == '/' ? fs::path(word) : fs::path(info.cwd) / word;
    const fs::path seen = of(tgid) / "root" / script.relative_path();
    if (stat(seen.c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
      info.script = script.lexically_normal().string();
      info.script_inode = status.st_ino;
      info.script_size = static_cast<std::uint64_t>(status.st_size);
      info.script_mtime_ns = mtime_ns(status);
      return;
    }
  }
}

Result<ProcessInfo> Procfs::process(std::uint32_t tgid) const {
  ProcessInfo info;
  const fs::path folder = of(tgid);
  const auto stat_text = read_file(folder / "stat", 4096);
  if (!stat_text) return fail(Code::NotFound, "no process " + std::to_string(tgid));
  read_stat(tgid, *stat_text, info);
  if (info.tgid == 0) return fail(Code::Corrupt, "unreadable stat of process " + std::to_string(tgid));
  if (const auto text = read_file(folder / "status", 16 * 1024)) {
    info.uid = number<std::uint32_t>(value_of(*text, "Uid"));
    const auto group = value_of(*text, "Tgid");
    if (!group.empty() && number<std::uint32_t>(group) != tgid) {
      return fail(Code::NotFound, std::to_string(tgid) + " is a thread, no process");
    }
  }
  if (const auto text = read_file(folder / "cmdline", kCmdlineBytesMax)) {
    for (const auto word : split(*text, '\0')) info.cmdline.emplace_back(word);
  }
  info.fds = count_fds(folder / "fd");
  info.fd_limit = fd_limit(folder);
  info.exe = read_link(folder / "exe");
  info.cwd = read_link(folder / "cwd");
  read_cgroups(tgid, info.cgroup, info.memory_cgroup);
  if (!info.cgroup.empty()) info.cgroup_id = cgroup_id(info.cgroup).value_or(0);
  read_executable(tgid, info);
  return info;
}

Result<ProcessSample> Procfs::sample(std::uint32_t tgid) const {
  const fs::path folder = of(tgid);
  const auto text = read_file(folder / "stat", 4096);
  if (!text) return fail(Code::NotFound, "no process " + std::to_string(tgid));
  ProcessInfo info;
  read_stat(tgid, *text, info);
  ProcessSample sample;
  sample.tgid = tgid;
  sample.state = info.state;
  sample.threads = info.threads;
  sample.rss_bytes = info.rss_bytes;
  const auto close = text->rfind(')');
  const auto fields = split(std::string_view(*text).substr(close == std::string::npos ? 0 : close + 1), ' ');
  if (fields.size() > 9) sample.major_faults = number<std::uint64_t>(fields[9]);
  sample.fds = count_fds(folder / "fd");
  sample.fd_limit = fd_limit(folder);
  return sample;
}

Result<std::string> Procfs::fd_path(std::uint32_t tgid, std::int32_t fd) const {
  std::string path = read_link(of(tgid) / "fd" / std::to_string(fd));
  if (path.empty()) return fail(Code::NotFound, fmt::format("process {} has no descriptor {}", tgid, fd));
  return path;
}

bool Procfs::exists(std::uint32_t tgid) const { return access(of(tgid).c_str(), F_OK) == 0; }

std::vector<std::uint32_t> Procfs::tgids() const {
  std::vector<std::uint32_t> all;
  each_process(roots_.proc, [&](std::uint32_t tgid) {
    if (all.size() < kProcessesMax) all.push_back(tgid);
  });
  return all;
}

std::vector<ProcessRow> Procfs::processes() const {
  std::vector<ProcessRow> rows;
  each_process(roots_.proc, [&](std::uint32_t tgid) {
    if (rows.size() >= kProcessesMax) return;
    const auto text = read_file(of(tgid) / "stat", 4096);
    if (!text) return;
    ProcessInfo info;
    read_stat(tgid, *text, info);
    if (info.tgid == 0) return;
    struct stat status {};
    if (stat(of(tgid).c_str(), &status) == 0) info.uid = status.st_uid;
    read_cgroups(tgid, info.cgroup, info.memory_cgroup);
    rows.push_back({tgid, info.ppid, info.uid, cgroup_id(info.cgroup).value_or(0), info.start_time_ns, info.comm});
  });
  return rows;
}

std::vector<SocketOwner> Procfs::socket_owners(std::uint32_t only) const {
  std::vector<SocketOwner> owners;
  const auto read_one = [&](std::uint32_t tgid) {
    const fs::path path = of(tgid) / "fd";
    const Folder folder(opendir(path.c_str()));
    if (!folder) return;
    char target[64];
    while (const dirent* entry = readdir(folder.get())) {
      if (entry->d_name[0] == '.' || owners.size() >= kSocketsMax) continue;
      const ssize_t bytes = readlinkat(dirfd(folder.get()), entry->d_name, target, sizeof(target));
      if (bytes <= 0) continue;
      const std::string_view text(target, static_cast<std::size_t>(bytes));
      if (!text.starts_with("socket:[")) continue;
      owners.push_back({number<std::uint64_t>(text.substr(8)), tgid, number<std::int32_t>(entry->d_name)});
    }
  };
  if (only != 0) {
    read_one(only);
  } else {
    each_process(roots_.proc, read_one);
  }
  return owners;
}

std::vector<FilesystemSpace> Procfs::filesystems() const {
  std::vector<FilesystemSpace> spaces;
  const auto text = read_file(roots_.proc / "self/mountinfo");
  if (!text) return spaces;
  std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
  for (const auto line : split(*text, '\n')) {
    Mount mount;
    if (!parse_mount(line, mount) || !is_storage(mount.type) || spaces.size() >= kFilesystemsMax) continue;
    if (!seen.insert({mount.major, mount.minor}).second) continue;  // bind mounts of the same one
    struct statvfs numbers {};
    if (statvfs(mount.point.c_str(), &numbers) != 0 || numbers.f_blocks == 0) continue;
    FilesystemSpace space;
    space.mount_point = mount.point;
    space.source = mount.source;
    space.type = mount.type;
    space.total_bytes = numbers.f_blocks * numbers.f_frsize;
    space.available_bytes = numbers.f_bavail * numbers.f_frsize;
    space.inodes_total = numbers.f_files;
    space.inodes_free = numbers.f_favail;
    space.read_only = has_option(mount.options, "ro") || has_option(mount.super_options, "ro");
    if (mount.major != 0) {
      space.device = mount.major << 20 | mount.minor;
      // Block events name whole disks: a partition's parent folder is its disk.
      const fs::path folder = roots_.sys / "dev/block" / fmt::format("{}:{}", mount.major, mount.minor);
      std::error_code error;
      if (fs::exists(folder / "partition", error)) {
        if (const auto disk = read_file(fs::path(folder) / ".." / "dev", 64)) {
          const auto colon = disk->find(':');
          if (colon != std::string::npos) {
            space.device = number<std::uint32_t>(*disk) << 20 |
                           number<std::uint32_t>(std::string_view(*disk).substr(colon + 1));
          }
        }
      }
    }
    spaces.push_back(std::move(space));
  }
  return spaces;
}

Result<std::uint64_t> Procfs::cgroup_id(const std::string& path) const {
  if (!valid_cgroup_path(path)) return fail(Code::Invalid, "no cgroup path: '" + path + "'");
  struct stat status {};
  if (cgroup2_.empty() || stat((cgroup2_.string() + path).c_str(), &status) != 0) {
    return fail(Code::NotFound, "no cgroup '" + path + "'");
  }
  return status.st_ino;
}

Result<CgroupLimits> Procfs::cgroup(const std::string& path) const {
  if (!valid_cgroup_path(path)) return fail(Code::Invalid, "no cgroup path: '" + path + "'");
  CgroupLimits limits;
  limits.path = path;
  bool found = false;
  const fs::path v2 = cgroup2_.string() + path;
  if (const auto usage = read_file(v2 / "memory.current", 64); usage && !cgroup2_.empty()) {
    found = true;
    limits.memory_usage_bytes = number<std::uint64_t>(*usage);
    limits.memory_limit_bytes = limit(read_file(v2 / "memory.max", 64).value_or("max"));
    limits.oom_kills = number<std::uint64_t>(value_of(read_file(v2 / "memory.events").value_or(""), "oom_kill"));
  } else if (const fs::path v1 = cgroup_memory_.string() + path; !cgroup_memory_.empty() && fs::exists(v1)) {
    found = limits.v1 = true;
    limits.memory_usage_bytes = number<std::uint64_t>(read_file(v1 / "memory.usage_in_bytes", 64).value_or("0"));
    limits.memory_limit_bytes = limit(read_file(v1 / "memory.limit_in_bytes", 64).value_or(""));
    limits.oom_kills =
        number<std::uint64_t>(value_of(read_file(v1 / "memory.oom_control").value_or(""), "oom_kill"));
  }
  if (const auto quota = read_file(v2 / "cpu.max", 64); quota && !cgroup2_.empty()) {
    found = true;
    const auto words = split(*quota, ' ');
    if (words.size() == 2) {
      limits.cpu_quota_us = number<std::uint64_t>(words[0], kNoLimit);
      limits.cpu_period_us = number<std::uint64_t>(words[1]);
    }
    const std::string counts = read_file(v2 / "cpu.stat").value_or("");
    limits.throttled_count = number<std::uint64_t>(value_of(counts, "nr_throttled"));
    limits.throttled_us = number<std::uint64_t>(value_of(counts, "throttled_usec"));
  } else if (const fs::path v1 = cgroup_cpu_.string() + path; !cgroup_cpu_.empty() && fs::exists(v1)) {
    found = limits.v1 = true;
    const auto quota_us = number<std::int64_t>(read_file(v1 / "cpu.cfs_quota_us", 64).value_or("-1"), -1);
    if (quota_us > 0) limits.cpu_quota_us = static_cast<std::uint64_t>(quota_us);
    limits.cpu_period_us = number<std::uint64_t>(read_file(v1 / "cpu.cfs_period_us", 64).value_or("0"));
    const std::string counts = read_file(v1 / "cpu.stat").value_or("");
    limits.throttled_count = number<std::uint64_t>(value_of(counts, "nr_throttled"));
    limits.throttled_us = number<std::uint64_t>(value_of(counts, "throttled_time")) / 1000;
  }
  if (!found && !(fs::exists(v2) && !cgroup2_.empty())) return fail(Code::NotFound, "no cgroup '" + path + "'");
  return limits;
}

std::vector<std::uint32_t> Procfs::cgroup_members(const std::string& path) const {
  std::vector<std::uint32_t> members;
  if (!valid_cgroup_path(path)) return members;
  for (const fs::path& mount : {cgroup2_, cgroup_memory_}) {
    if (mount.empty()) continue;
    std::vector<fs::path> folders = {mount.string() + path};
    for (std::size_t i = 0; i < folders.size() && folders.size() < kCgroupFoldersMax; ++i) {
      const std::string processes = read_file(folders[i] / "cgroup.procs").value_or("");
      for (const auto line : split(processes, '\n')) {
        members.push_back(number<std::uint32_t>(line));
      }
      const Folder folder(opendir(folders[i].c_str()));
      while (const dirent* entry = folder ? readdir(folder.get()) : nullptr) {
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') folders.push_back(folders[i] / entry->d_name);
      }
    }
  }
  std::sort(members.begin(), members.end());
  members.erase(std::unique(members.begin(), members.end()), members.end());
  return members;
}

}  // namespace culprit::sensor
