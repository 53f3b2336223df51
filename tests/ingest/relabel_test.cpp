// Relabeling does what Prometheus' documentation says, step by step.
#include "daemon/ingest/relabel.h"

#include <gmock/gmock.h>

#include "daemon/ingest/scrape.h"
#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

TEST(Relabel, EachAction) {
  const Labels labels = {{"code", "500"}, {"method", "get"}, {"__meta_pod", "cart-1"}, {"__meta_node", "n1"}};
  using Steps = std::vector<RelabelStep>;
  const struct { const char* name; Steps steps; const char* renamed; Labels expected; } cases[] = {
      {"none", {}, "http_requests", labels},
      {"replace", {{.source_labels = {"code", "method"}, .separator = "-", .target_label = "both"}}, "http_requests", {labels[0], labels[1], labels[2], labels[3], {"both", "500-get"}}},
      {"replace a part", {{.source_labels = {"code"}, .regex = "(.)..", .target_label = "class", .replacement = "${1}xx"}}, "http_requests", {labels[0], labels[1], labels[2], labels[3], {"class", "5xx"}}},
      {"a named group", {{.source_labels = {"code"}, .regex = "(?P<first>.).*", .target_label = "class", .replacement = "${first}$$"}}, "http_requests", {labels[0], labels[1], labels[2], labels[3], {"class", "5$"}}},
      {"no match changes nothing", {{.source_labels = {"code"}, .regex = "50", .target_label = "code", .replacement = "x"}}, "http_requests", labels},
      {"an empty value takes it off", {{.target_label = "code", .replacement = ""}}, "http_requests", {labels[1], labels[2], labels[3]}},
      {"the name", {{.source_labels = {"__name__"}, .regex = "http_(.*)", .target_label = "__name__"}}, "requests", labels},
      {"labelmap", {{.action = "labelmap", .regex = "__meta_(.+)"}}, "http_requests", {labels[0], labels[1], labels[2], labels[3], {"pod", "cart-1"}, {"node", "n1"}}},
      {"labeldrop", {{.action = "labeldrop", .regex = "__meta_.*"}}, "http_requests", {labels[0], labels[1]}},
      {"labelkeep", {{.action = "labelkeep", .regex = "code|method"}}, "http_requests", {labels[0], labels[1]}},
      {"keep", {{.action = "keep", .source_labels = {"code"}, .regex = "5.."}}, "http_requests", labels},
      {"not kept", {{.action = "keep", .source_labels = {"code"}, .regex = "4.."}}, nullptr, {}},
      {"drop", {{.action = "drop", .source_labels = {"code", "method"}, .regex = "500;get"}}, nullptr, {}},
      {"anchored at both ends", {{.action = "drop", .source_labels = {"code"}, .regex = "0"}}, "http_requests", labels},
      {"no such label is empty", {{.action = "drop", .source_labels = {"absent"}, .regex = ""}}, nullptr, {}},
      {"uppercase", {{.action = "uppercase", .source_labels = {"method"}, .target_label = "method"}}, "http_requests", {labels[0], {"method", "GET"}, labels[2], labels[3]}},
      {"one after the other", {{.action = "labelmap", .regex = "__meta_(.+)"}, {.action = "labeldrop", .regex = "__.*"}, {.source_labels = {"pod"}, .regex = "(.*)-1", .target_label = "service"}},
       "http_requests", {labels[0], labels[1], {"pod", "cart-1"}, {"node", "n1"}, {"service", "cart"}}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const auto relabel = Relabel::create(c.steps);
    ASSERT_TRUE(relabel) << relabel.error().message;
    std::string name = "http_requests";
    Labels now = labels;
    EXPECT_EQ(relabel->apply(name, now), c.renamed != nullptr);
    if (c.renamed == nullptr) continue;
    EXPECT_EQ(name, c.renamed);
    EXPECT_EQ(now, c.expected);
  }
}

TEST(Relabel, WrongStepsAreNamed) {
  const struct { RelabelStep step; const char* text; } cases[] = {
      {{.action = "repalce"}, "did you mean 'replace'"},
      {{.regex = "("}, "regex '('"},
      {{.regex = std::string(2000, 'x'), .target_label = "a"}, "more than"},
      {{.source_labels = {"a"}}, "target_label"},
      {{.target_label = "no name"}, "no label's name"},
      {{.action = "keep", .regex = "x"}, "source_labels"},
  };
  for (const auto& c : cases) {
    const auto relabel = Relabel::create({{.action = "labeldrop", .regex = "x"}, c.step});
    ASSERT_FALSE(relabel) << c.text;
    EXPECT_EQ(relabel.error().code, Code::Invalid);
    EXPECT_THAT(relabel.error().message, testing::AllOf(testing::HasSubstr("step 2"), testing::HasSubstr(c.text)));
  }
  EXPECT_FALSE(parse_relabel("{action: keep}"));
  EXPECT_FALSE(parse_relabel("[{acton: keep}]"));
  EXPECT_FALSE(parse_relabel("[{source_labels: a}]"));
  EXPECT_FALSE(parse_relabel("[{"));
  const auto steps = parse_relabel(R"([{"action": "keep", "source_labels": ["a", "b"], "regex": "x"}])");
  ASSERT_TRUE(steps);
  EXPECT_EQ((*steps)[0].source_labels, (std::vector<std::string>{"a", "b"}));
  const auto config = Config::parse("sources:\n  - type: scrape\n    target: a:1\n    relabel:\n      - {action: drop, source_labels: [__name__], regex: 'go_\"x\".*'}\n", "c.yaml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ((*parse_relabel(config->sources[0].get("relabel")))[0].regex, "go_\"x\".*");
}

// Steps over a target decide whether it is asked, where, and which labels its samples carry.
TEST(Relabel, Targets) {
  const struct {
    const char* name;
    const char* steps;
    const char* url;  // empty: dropped
    Labels labels;
  } cases[] = {
      {"none", "[]", "http://10.0.0.7:9100/metrics?a=1", {{"rack", "7"}, {"tmp", "x"}, {"job", "shops"}, {"instance", "10.0.0.7:9100"}}},
      {"keep", "[{source_labels: [rack], regex: '[78]', action: keep}]", "http://10.0.0.7:9100/metrics?a=1", {{"rack", "7"}, {"tmp", "x"}, {"job", "shops"}, {"instance", "10.0.0.7:9100"}}},
      {"keep others", "[{source_labels: [rack], regex: '8', action: keep}]", "", {}},
      {"drop", "[{source_labels: [__address__], regex: '10\\..*', action: drop}]", "", {}},
      {"replace", "[{source_labels: [__address__], regex: '(.*):.*', target_label: instance}, {target_label: __address__, replacement: 'proxy:1'}, {target_label: __scheme__, replacement: https}]",
       "https://proxy:1/metrics?a=1", {{"rack", "7"}, {"tmp", "x"}, {"job", "shops"}, {"instance", "10.0.0.7"}}},
      {"labelmap and labeldrop", "[{regex: '__(scheme)__', action: labelmap}, {regex: 'tmp', action: labeldrop}]", "http://10.0.0.7:9100/metrics?a=1", {{"rack", "7"}, {"job", "shops"}, {"scheme", "http"}, {"instance", "10.0.0.7:9100"}}},
      {"labelkeep", "[{regex: '__.*|tmp', action: labelkeep}]", "http://10.0.0.7:9100/metrics?a=1", {{"tmp", "x"}, {"instance", "10.0.0.7:9100"}}},
      {"address that is another one", "[{target_label: __address__, replacement: 'db:1'}, {target_label: job, replacement: dbs}]", "http://db:1/metrics?a=1",
       {{"rack", "7"}, {"tmp", "x"}, {"job", "dbs"}, {"instance", "db:1"}}},
      {"no address left", "[{regex: __address__, action: labeldrop}]", "", {}},
      {"no scheme that we speak", "[{target_label: __scheme__, replacement: ftp}]", "", {}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const auto relabel = Relabel::create(parse_relabel(c.steps).value()).value();
    ScrapeOptions options;
    options.url = "http://10.0.0.7:9100/metrics?a=1";
    options.target.labels = {{"rack", "7"}, {"tmp", "x"}};
    const auto got = Scraper::labelled(options, "shops", &relabel);
    ASSERT_EQ(got.has_value(), c.url[0] != '\0');
    if (!got) continue;
    EXPECT_EQ(got->url, c.url);
    EXPECT_EQ(got->target.labels, c.labels);
  }
}

// A target's labels win over what it exposes, which keeps its value under another name.
TEST(Relabel, LabelsOfTheTargetWin) {
  Decoded out;
  ScrapeTarget target;
  target.labels = {{"rack", "7"}};
  ASSERT_TRUE(decode_exposition("up_time{rack=\"1\"} 3\n", target, test_context(), out));
  ASSERT_EQ(out.events.size(), 1U);
  EXPECT_EQ(out.events[0].name, "up_time{exported_rack=\"1\",rack=\"7\"}");
}

TEST(Relabel, HonoredLabelsAreTheSamples) {
  Decoded out;
  ScrapeTarget target;
  target.labels = {{"job", "federate"}, {"instance", "10.0.0.7:9090"}};
  target.honor_labels = true;
  ASSERT_TRUE(decode_exposition("a{job=\"api\",instance=\"10.0.0.8:80\"} 3\nb 1\n", target, test_context(), out));
  EXPECT_EQ(find(out, "a{instance=\"10.0.0.8:80\"}")->entity, "service:api");
  EXPECT_EQ(find(out, "b{instance=\"10.0.0.7:9090\"}")->entity, "service:federate");
}

// Every target has its job and instance, as with Prometheus: two of one service never share a series. Whose a sample is: what was
// said, else who listens there, else this host, and the job of a target elsewhere.
TEST(Relabel, TargetsHaveTheirJobAndInstance) {
  const struct {
    const char* target;
    const char* entity;
    Labels labels;
    const char* name;
    const char* of;
  } cases[] = {
      {"10.0.0.7:9100", "service:shop", {}, "x{instance=\"10.0.0.7:9100\",job=\"shops\"}", "service:shop"},
      {"10.0.0.8:9100", "service:shop", {}, "x{instance=\"10.0.0.8:9100\",job=\"shops\"}", "service:shop"},
      {"10.0.0.8:9100", "service:shop", {{"instance", "blue"}, {"job", "ns/shop"}}, "x{instance=\"blue\"}", "service:shop"},
      {"http://10.0.0.9/metrics", "", {}, "x{instance=\"10.0.0.9\"}", "service:shops"},
      {"127.0.0.1:8080", "", {}, "x{instance=\"127.0.0.1:8080\",job=\"shops\"}", "service:web"},
      {"localhost:9100", "", {}, "x{instance=\"localhost:9100\",job=\"shops\"}", "host"},
      {"testhost:9100", "", {}, "x{instance=\"testhost:9100\",job=\"shops\"}", "host"},
      {"localhost:9100", "", {{"job", "api"}}, "x{instance=\"localhost:9100\"}", "service:api"},
      {"[::1]:9100", "", {{"service", "cart"}}, "x{instance=\"[::1]:9100\",job=\"shops\",service=\"cart\"}", "service:cart"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.target);
    ScrapeOptions options;
    options.url = Scraper::url_of(c.target).value();
    options.target.entity = c.entity;
    options.target.labels = c.labels;
    const auto labelled = Scraper::labelled(options, "shops", nullptr);
    ASSERT_TRUE(labelled);
    EXPECT_EQ(labelled->url, options.url);
    Decoded out;
    ASSERT_TRUE(decode_exposition("x 3\n", labelled->target, test_context(), out));
    add_up(false, labelled->target, test_context(), out);
    ASSERT_EQ(out.events.size(), 2U);
    EXPECT_EQ(out.events[0].name, c.name);
    EXPECT_EQ(out.events[0].entity, c.of);
    EXPECT_EQ(out.events[1].name, "up" + std::string(c.name).substr(1));
    EXPECT_EQ(out.events[1].entity, c.of);
    EXPECT_EQ(out.events[1].value, 0);
  }
}

}  // namespace
}  // namespace culprit::ingest
