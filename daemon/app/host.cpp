#include "daemon/app/host.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "daemon/base/clock.h"
#include "daemon/base/fd.h"

namespace culprit::app {
namespace {

std::string read_text(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// "some avg10=0.12 ..." as a share; -1 where the kernel does not offer it.
double pressure_some(const std::filesystem::path& file) {
  const std::string text = read_text(file);
  const std::size_t at = text.find("avg10=");
  if (at == std::string::npos) return -1;
  return std::strtod(text.c_str() + at + 6, nullptr) / 100;
}

// IPv4 through the oldest interface there is: it needs neither rights nor a netlink socket, which the unit refuses.
void add_ipv4(std::vector<std::vector<std::uint8_t>>& out) {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return;
  std::array<ifreq, 128> requests{};
  ifconf conf{};
  conf.ifc_len = static_cast<int>(sizeof(requests));
  conf.ifc_req = requests.data();
  if (::ioctl(socket.get(), SIOCGIFCONF, &conf) != 0) return;
  for (std::size_t i = 0; i < static_cast<std::size_t>(conf.ifc_len) / sizeof(ifreq); ++i) {
    sockaddr_in address{};
    std::memcpy(&address, &requests[i].ifr_addr, sizeof(address));
    if (address.sin_family != AF_INET) continue;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&address.sin_addr);
    out.emplace_back(bytes, bytes + 4);
  }
}

void add_ipv6(const std::filesystem::path& file, std::vector<std::vector<std::uint8_t>>& out) {
  std::ifstream stream(file);
  std::string line;
  while (std::getline(stream, line)) {
    if (line.size() < 32) continue;
    std::vector<std::uint8_t> address(16);
    bool good = true;
    for (std::size_t i = 0; i < 16; ++i) {
      const char* from = line.data() + i * 2;
      good = good && std::from_chars(from, from + 2, address[i], 16).ec == std::errc();
    }
    if (good) out.push_back(std::move(address));
  }
}

}  // namespace

track::HostFacts Host::facts() const {
  track::HostFacts facts;
  facts.cpus = ::get_nprocs();
  std::ifstream meminfo(proc_ / "meminfo");
  std::string key;
  std::int64_t kib = 0;
  std::string unit;
  while (meminfo >> key >> kib && std::getline(meminfo, unit)) {
    if (key == "MemTotal:") facts.memory_bytes = kib * 1024;
    if (key == "MemAvailable:") facts.memory_available_bytes = kib * 1024;
  }
  facts.pressure_cpu = pressure_some(proc_ / "pressure/cpu");
  facts.pressure_io = pressure_some(proc_ / "pressure/io");
  facts.pressure_memory = pressure_some(proc_ / "pressure/memory");
  add_ipv4(facts.addresses);
  add_ipv6(proc_ / "net/if_inet6", facts.addresses);
  return facts;
}

std::vector<track::DeviceName> Host::devices() const {
  std::vector<track::DeviceName> devices;
  std::ifstream partitions(proc_ / "partitions");
  std::string line;
  while (std::getline(partitions, line)) {
    std::istringstream words(line);
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    std::uint64_t blocks = 0;
    std::string name;
    if (words >> major >> minor >> blocks >> name) devices.push_back({(major << 20U) | minor, name});
  }
  return devices;
}

ProcessCost Host::own_cost() const {
  ProcessCost cost;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto ns = [](const timeval& time) {
    return static_cast<std::int64_t>(time.tv_sec) * kNsPerSecond + static_cast<std::int64_t>(time.tv_usec) * 1000;
  };
  cost.cpu_ns = ns(usage.ru_utime) + ns(usage.ru_stime);
  std::ifstream statm(proc_ / "self/statm");
  std::uint64_t pages = 0;
  std::uint64_t resident = 0;
  if (statm >> pages >> resident) cost.rss_bytes = resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return cost;
}

std::string Host::boot_id() const {
  std::string id = read_text(proc_ / "sys/kernel/random/boot_id");
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

std::string Host::name() const {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

}  // namespace culprit::app
