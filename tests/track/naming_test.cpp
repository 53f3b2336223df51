#include "daemon/track/naming.h"

#include <gtest/gtest.h>

namespace culprit::track {

TEST(Naming, Cgroups) {
  const std::string id(64, 'a');
  const struct { std::string path, name; NamedBy by; } cases[] = {
      {"/system.slice/nginx.service", "nginx", NamedBy::Unit},
      {"/system.slice/postgresql@15-main.service", "postgresql@15-main", NamedBy::Unit},
      {"/system.slice/shop.service/workers", "shop", NamedBy::Unit},
      {"/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service", "sync", NamedBy::Unit},
      {"/user.slice/user-1000.slice/user@1000.service", "", NamedBy::Nothing},
      {"/user.slice/user-1000.slice/session-3.scope", "", NamedBy::Nothing},
      {"/init.scope", "", NamedBy::Nothing},
      {"/system.slice", "", NamedBy::Nothing},
      {"/", "", NamedBy::Nothing},
      {"", "", NamedBy::Nothing},
      {"/system.slice/docker-" + id + ".scope", "docker-aaaaaaaaaaaa", NamedBy::Container},
      {"/docker/" + id, "docker-aaaaaaaaaaaa", NamedBy::Container},
      {"/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope", "containerd-aaaaaaaaaaaa", NamedBy::Container},
      {"/kubepods/burstable/pod12/" + id, "k8s-aaaaaaaaaaaa", NamedBy::Container},
      {"/machine.slice/libpod-" + id + ".scope", "libpod-aaaaaaaaaaaa", NamedBy::Container},
      {"/culprit-lab-7/shop", "shop", NamedBy::Cgroup},
      {"/weird name>x", "weird_name_x", NamedBy::Cgroup},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.path);
    const ServiceName name = name_of_cgroup(c.path);
    EXPECT_EQ(name.name, c.name);
    EXPECT_EQ(name.by, c.by);
  }
}

TEST(Naming, Programs) {
  const struct { std::string exe; std::vector<std::string> cmdline; std::string name; } cases[] = {
      {"/usr/sbin/nginx", {"nginx: worker process"}, "nginx"},
      {"/usr/bin/python3.11", {"python3", "/srv/shop/app.py", "--port", "1"}, "app"},
      {"/usr/bin/python3.11", {"python3", "-u", "-W", "ignore", "app.py"}, "app"},
      {"/usr/bin/python3.11", {"python3", "-m", "http.server"}, "http.server"},
      {"/usr/bin/python3.11", {"python3", "-c", "print(1)"}, "python3.11"},
      {"/usr/bin/python3.11", {"/usr/bin/python3", "/usr/bin/gunicorn", "app:app"}, "gunicorn"},
      {"/usr/bin/node", {"node", "--max-old-space-size=512", "server.js"}, "server"},
      {"/usr/lib/jvm/17/bin/java", {"java", "-Xmx1g", "-jar", "/opt/shop-1.2.3.jar"}, "shop"},
      {"/usr/lib/jvm/17/bin/java", {"java", "-cp", "a:b", "com.example.Main"}, "com.example.Main"},
      {"/usr/bin/bash", {"bash", "/opt/run.sh"}, "run"},
      {"/usr/bin/bash", {"-bash"}, "bash"},
      {"/usr/bin/redis-server (deleted)", {"redis-server"}, "redis-server"},
      {"", {}, ""},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.exe + " " + (c.cmdline.size() > 1 ? c.cmdline[1] : ""));
    ProcessFacts facts;
    facts.exe = c.exe;
    facts.cmdline = c.cmdline;
    facts.cgroup = "/user.slice/session-1.scope";
    EXPECT_EQ(name_of_process(facts, {}).name, c.name);
  }
}

// Rules name services; ignored cgroups do not.
TEST(Naming, RulesAndIgnoredCgroups) {
  ProcessFacts facts;
  facts.exe = "/usr/bin/tool";
  facts.cgroup = "/box/shared";
  const std::string ignored[] = {"/box/*"};
  EXPECT_EQ(name_of_process(facts, {}).name, "shared");
  EXPECT_EQ(name_of_process(facts, ignored).name, "tool");
  const std::uint16_t ports[] = {80, 443};
  const Candidate candidate{7, &facts, "shared", ports};
  const struct { const char* name; Match match; bool fits; } cases[] = {
      {"empty", {}, false},
      {"cgroup", {.cgroup = "/box/*"}, true},
      {"exe base name", {.exe = "to*"}, true},
      {"exe path", {.exe = "/usr/bin/*"}, true},
      {"other exe", {.exe = "other"}, false},
      {"port", {.port = 443}, true},
      {"other port", {.port = 22}, false},
      {"pid", {.pid = 7}, true},
      {"all must fit", {.cgroup = "/box/*", .port = 22}, false},
      {"service", {.service = "sha*"}, true},
      {"unit", {.unit = "shared"}, false},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(matches(c.match, candidate), c.fits);
  }
}

}  // namespace culprit::track
