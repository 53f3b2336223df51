#include "rules/policy.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace culprit::rules {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> settings(std::string_view text, Format format) {
  const auto parsed = parse_config("f", text, format);
  EXPECT_TRUE(parsed) << parsed.error().message;
  std::vector<std::string> result;
  for (const Setting& setting : *parsed) result.push_back(std::to_string(setting.line) + " " + setting.path + "=" + setting.value);
  return result;
}

// Every format becomes the same list of paths, values and lines.
TEST(Config, Formats) {
  EXPECT_THAT(settings("a b 'c d'; # no\nhttp {\n  server {\n listen 80;\n set $x \"${y} z\";\n }\n}\n", Format::Nginx),
              ElementsAre("1 a=b c d", "2 http=", "3 http/server=", "4 http/server/listen=80", "5 http/server/set=$x ${y} z"));
  EXPECT_THAT(settings("# c\nFsync = 'off' # x\nport 5432\nfsync = on\n", Format::Postgresql), ElementsAre("4 fsync=on", "3 port=5432"));
  EXPECT_THAT(settings("save 900 1\nsave 60 10\n# x\nrequirepass \"a b\"\n", Format::Redis), ElementsAre("1 save=900 1", "2 save=60 10", "4 requirepass=a b"));
  EXPECT_THAT(settings("top=1\n[MySQLd]\nskip-name-resolve\nport = 3306 ; c\n", Format::Ini), ElementsAre("1 top=1", "3 mysqld/skip-name-resolve=", "4 mysqld/port=3306"));
  EXPECT_THAT(settings("export A=\"b\"\n# c\nC=d # kept\n", Format::Env), ElementsAre("1 a=b", "3 c=d # kept"));
  EXPECT_THAT(settings("a:\n  b: 1\n  c: [x, {d: y}]\n---\ne: 2\n", Format::Yaml), ElementsAre("2 a/b=1", "3 a/c=x", "3 a/c/d=y", "5 e=2"));
  EXPECT_THAT(settings("{\"a\": {\n\"b\": [1, 2]}}", Format::Json), ElementsAre("2 a/b=1", "2 a/b=2"));
}

TEST(Config, MistakesNameFileAndLine) {
  const struct { Format format; const char* text; const char* says; } cases[] = {
      {Format::Nginx, "a;\nhttp {\n", "f:2: block 'http' is not closed"}, {Format::Nginx, "}\n", "f:1: '}' without '{'"}, {Format::Nginx, "a b\n", "f:1: 'a' lacks its ';'"},
      {Format::Nginx, "a {\n b }\n", "f:2: 'b' lacks its ';'"}, {Format::Nginx, "a \"b;\n", "f:1: a quote is not closed"}, {Format::Nginx, "{", "f:1: '{' without a name"},
      {Format::Postgresql, "port\n", "f:1: 'port' has no value"}, {Format::Ini, "x=1\n[a\n", "f:2: '[' without ']'"}, {Format::Yaml, "a: [\n", "f:"}};
  for (const auto& c : cases) {
    const auto parsed = parse_config("f", c.text, c.format);
    ASSERT_FALSE(parsed) << c.text;
    EXPECT_EQ(parsed.error().code, Code::Invalid);
    EXPECT_THAT(parsed.error().message, HasSubstr(c.says));
  }
  EXPECT_FALSE(parse_config("f", std::string(1000, '{'), Format::Nginx));
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += "a{";
  EXPECT_THAT(parse_config("f", deep, Format::Nginx).error().message, HasSubstr("inside each other"));
}

TEST(Config, GuessesFormats) {
  const struct { const char* file; const char* text; std::optional<Format> format; } cases[] = {
      {"/etc/nginx/sites-enabled/shop", "", Format::Nginx}, {"postgresql.auto.conf", "", Format::Postgresql}, {"redis-6380.conf", "", Format::Redis},
      {"my.cnf", "", Format::Ini}, {".env.local", "", Format::Env}, {"values.yaml", "", Format::Yaml}, {"x", "{\"a\": 1}", Format::Json},
      {"x.conf", "http {\n server {}\n}", Format::Nginx}, {"shop.service", "", Format::Ini}, {"/etc/systemd/system/nginx.service", "", Format::Ini}, {"/etc/init.d/nginx", "", std::nullopt}, {"/etc/logrotate.d/nginx", "", std::nullopt}, {"/etc/ufw/applications.d/nginx", "[Nginx]\n", std::nullopt},
      {"/usr/lib/tmpfiles.d/postgresql-common.conf", "", std::nullopt}, {"/srv/nginx-shop.conf", "", Format::Nginx}, {"/etc/default/redis.conf", "", std::nullopt}, {"/srv/nginx-notes.txt", "", std::nullopt}, {"x", "hello world", std::nullopt}, {"x", "", std::nullopt}};
  for (const auto& c : cases) EXPECT_EQ(guess_format(c.file, c.text), c.format) << c.file << " " << c.text;
}

// The policies that ship load, and their own tests pass.
TEST(Policies, BuiltInPassTheirTests) {
  const auto policies = PolicySet::load(built_in_policies());
  ASSERT_TRUE(policies) << policies.error().message;
  EXPECT_GE((*policies)->list().size(), 8U);
  for (const TestResult& result : (*policies)->run_tests()) EXPECT_TRUE(result.passed) << result.origin << ": " << result.rule << ", " << result.test << ": " << result.message;
}

// Findings carry file and line; secrets are not repeated.
TEST(Policies, FindingsPointAtTheLine) {
  const auto policies = PolicySet::load(built_in_policies()).value();
  const auto redis = policies->check("redis.conf", "port 6379\nmaxmemory 1gb\n");
  ASSERT_EQ(redis->size(), 1U);
  EXPECT_EQ((*redis)[0].policy, "redis-maxmemory-policy");
  EXPECT_EQ((*redis)[0].line, 2);
  const auto secret = policies->check("app.env", "A=1\nJWT_SECRET=hunter2\n");
  ASSERT_EQ(secret->size(), 1U);
  EXPECT_EQ((*secret)[0].line, 2);
  EXPECT_EQ((*secret)[0].severity, Severity::Error);
  EXPECT_EQ((*secret)[0].message.find("hunter2"), std::string::npos);
  const auto postgres = policies->check("postgresql.conf", "port = 1\nfsync = off\nlog_lock_waits = on\nidle_in_transaction_session_timeout = 5min\n");
  ASSERT_EQ(postgres->size(), 1U);
  EXPECT_EQ((*postgres)[0].line, 2);
  EXPECT_EQ(policies->check("x", "what is this").error().code, Code::Unsupported);
}

// A file as large as one may be is a few seconds' work at most: each block looks only at what it holds (it took minutes when each
// looked at all of the file).
TEST(Policies, LargeFilesAreLinear) {
  const auto policies = PolicySet::load(built_in_policies()).value();
  std::string manifests;
  std::string one = "items:\n";
  constexpr std::size_t kMany = 3'000;
  for (std::size_t i = 0; i < kMany; ++i) {
    manifests += "apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{image: 'x:1'}, {image: 'y:1', resources: {limits: {memory: 1Mi}}}]}}}\n---\n";
    one += "  - {kind: Deployment, apiVersion: apps/v1, spec: {template: {spec: {containers: [{image: 'x:1'}]}}}}\n";
  }
  const auto count = [&](const std::string& text) {
    const auto found = policies->check("all.yaml", text, Format::Yaml, "kubernetes");
    EXPECT_TRUE(found) << found.error().message;
    return std::ranges::count(*found, std::string("k8s-memory-limit"), &PolicyFinding::policy);
  };
  EXPECT_EQ(count(manifests), static_cast<std::ptrdiff_t>(kMany));
  EXPECT_GE(count(one), 0);
  std::string nginx = "http {\n";
  for (std::size_t i = 0; i < kMany; ++i) nginx += "server { listen 80; location / { proxy_pass http://x; } }\n";
  EXPECT_EQ(policies->check("nginx.conf", nginx + "}\n")->size(), 2 * kMany);
}

TEST(Policies, MistakesAreNamed) {
  const auto load = [](const std::string& text) {
    const RuleText texts[] = {{"p.yaml", text}};
    return PolicySet::load(texts);
  };
  EXPECT_THAT(load("policy: x\nsummary: S\nadvice: A\nsource: S\nfiles: {}\nforbit: []\ntests: []\n").error().message, HasSubstr("p.yaml:6:1: unknown key 'forbit' in a policy; did you mean 'forbid'?"));
  EXPECT_THAT(load("policy: x\nsummary: S\nadvice: A\nsource: S\nfiles: {}\ntests: []\n").error().message, HasSubstr("p.yaml:1:1: a policy needs 'require', 'forbid' or 'require_in_file'"));
  EXPECT_THAT(load("policy: x\nsummary: S\nadvice: A\nsource: S\nfiles: {format: tomlo}\nforbid: [{path: a, regex: '('}]\ntests: []\n").error().message, HasSubstr("p.yaml:6:20: regex"));
  EXPECT_EQ(check_file(*load("policy: x\nsummary: S\nadvice: A\nsource: S\nfiles: {}\nforbid: [{path: a}]\ntests: []\n").value(), "/no/such/file").error().code, Code::NotFound);
}

}  // namespace
}  // namespace culprit::rules
