// The filter language: what each form means, where each mistake is, and that bounds never lose a match.
#include "daemon/stream/filter.h"

#include <gmock/gmock.h>

#include "daemon/stream/query.h"
#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Event refused() {
  Event event;
  event.time_ns = 5;
  event.kind = Kind::Log;
  event.severity = kError;
  event.entity = "service:shop";
  event.name = "t:1f";
  event.value = 0.25;
  event.trace_id[0] = 0xab;
  event.trace_id[1] = 0xcd;
  event.span_id = 0xef;
  event.attributes = {{"process.pid", "4211"}, {"http.response.status_code", "503"}, {"empty", ""}, {"name", "attribute"}};
  event.body = "FATAL: sorry, too many clients already \"x\"";
  return event;
}

TEST(FilterTest, MeansWhatTheLanguageSays) {
  const struct {
    const char* text;
    bool matches;
  } cases[] = {
      {"", true},
      {"  \n", true},
      {"kind = log", true},
      {"kind == log", true},
      {"kind != log", false},
      {"kind in (sample, log)", true},
      {"kind in (sample, span)", false},
      {"severity >= error", true},
      {"severity > error", false},
      {"severity = error", true},
      {"severity = 18", false},
      {"severity < fatal and severity > warn", true},
      {"severity < 0", false},
      {"severity <= warn", false},
      {"entity = service:shop", true},
      {"entity = service:*", true},
      {"entity = \"service:*\"", false},
      {"entity = service:sho?", true},
      {"service = shop", true},
      {"service = shopping", false},
      {"service in (cart, shop)", true},
      {"name = t:1f", true},
      {"value > 200ms", true},
      {"value <= 0.25", true},
      {"value = 25%", true},
      {"value < 0.25", false},
      {"process.pid = 4211", true},
      {"process.pid != 4211", false},
      {"other != 4211", true},
      {"http.response.status_code >= 500", true},
      {"http.response.status_code > 503", false},
      {"process.pid in (1, 4211)", true},
      {"has process.pid", true},
      {"has other", false},
      {"has empty", true},
      {"empty = \"\"", true},
      {"\"name\" = attribute", true},
      {"has trace_id and has span_id and has value and has body and has severity", true},
      {"trace_id = 00000000000000ab00000000000000cd", true},
      {"span_id = 00000000000000ef", true},
      {"span_id in (0000000000000001, 0000000000000002)", false},
      {"\"TOO many\"", true},
      {"\"too  many\"", false},
      {"body contains clients", true},
      {"body contains \"already \\\"x\"", true},
      {"body ~ \"^FATAL.*many\"", true},
      {"body ~ \"^\\w+:\\s\"", true},
      {"body ~ ^sorry", false},
      {"not kind = log", false},
      {"not not kind = log", true},
      {"kind = log severity >= error \"clients\"", true},
      {"kind = span or kind = log and value > 1", false},
      {"(kind = span or kind = log) and value < 1", true},
      {"kind = span or (kind = log and not (value > 1))", true},
  };
  const Event event = refused();
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    const auto filter = parse_filter(c.text);
    ASSERT_TRUE(filter) << filter.error().message;
    EXPECT_EQ(filter->matches(event), c.matches);
  }
}

// An edge touches both of its services, an endpoint its own, and an attribute names one too.
TEST(FilterTest, ServiceIsWhoeverTheEventTouches) {
  const struct {
    const char *entity, *service;
    bool matches;
  } cases[] = {
      {"edge:shop->redis", "", true},    {"edge:nginx->shop", "", true}, {"edge:a->b", "", false},
      {"endpoint:shop GET /", "", true}, {"endpoint:a GET /", "", false}, {"process:7", "shop", true},
      {"process:7", "a", false},         {"service:shop", "a", true},     {"edge:shop", "", false},
  };
  const auto filter = parse_filter("service = shop");
  ASSERT_TRUE(filter);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.entity);
    Event event;
    event.entity = c.entity;
    if (*c.service != '\0') event.attributes = {{"service", c.service}};
    EXPECT_EQ(filter->matches(event), c.matches);
  }
}

TEST(FilterTest, NotANumberMatchesNoComparison) {
  Event event;
  event.value = std::numeric_limits<double>::quiet_NaN();
  for (const char* text : {"value > 0", "value <= 0", "value = 0", "has value"}) EXPECT_FALSE(parse_filter(text)->matches(event)) << text;
}

TEST(FilterTest, MistakesSayTheirPlace) {
  const struct {
    std::string text;
    const char *place, *what;
  } cases[] = {
      {"kind = logs", "filter, column 8: ", "sample"},
      {"kind > log", "filter, column 1: ", "cannot be compared by '>'"},
      {"kind", "filter, column 5: ", "an operator"},
      {"kind =", "filter, column 7: ", "value is missing at the end"},
      {"(kind = log", "filter, column 12: ", "bracket of column 1"},
      {"kind = log)", "filter, column 11: ", "closes nothing"},
      {"and kind = log", "filter, column 1: ", "before 'and'"},
      {"kind = log and", "filter, column 15: ", "expected, not the end"},
      {"\"open", "filter, column 1: ", "never closed"},
      {"name = a{b", "filter, column 8: ", "brace"},
      {"value > much", "filter, column 9: ", "no number"},
      {"value > 1e999", "filter, column 9: ", "no number"},
      {"value in (1, 2)", "filter, column 1: ", "cannot be compared"},
      {"entity > a", "filter, column 1: ", "cannot be compared"},
      {"severity = loud", "filter, column 12: ", "none of trace"},
      {"severity in (warn, error)", "filter, column 1: ", "one value"},
      {"body ~ \"(\"", "filter, column 8: ", "no regular expression"},
      {"trace_id = 12", "filter, column 12: ", "32 hex digits"},
      {"entity near host/9", "filter, column 13: ", "at most 5 hops"},
      {"name near host", "filter, column 1: ", "cannot be compared"},
      {"kind in log", "filter, column 9: ", "'(' is expected"},
      {"kind in (log", "filter, column 13: ", "',' or ')'"},
      {"has kind", "filter, column 5: ", "'has' asks"},
      {"a $ b", "filter, column 3: ", "'$' means nothing"},
      {std::string(200, '(') + "kind = log", "filter, column 52: ", "levels of brackets"},
      {std::string(kFilterBytesMax + 1, ' '), "filter, column 16384: ", "16385 bytes"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text.substr(0, 60));
    const auto filter = parse_filter(c.text);
    ASSERT_FALSE(filter);
    EXPECT_EQ(filter.error().code, Code::Invalid);
    EXPECT_THAT(filter.error().message, StartsWith(c.place));
    EXPECT_THAT(filter.error().message, HasSubstr(c.what));
  }
  std::string many = "a = 1";
  for (std::size_t i = 1; i < kFilterTermsMax; ++i) many += " a = 1";
  EXPECT_TRUE(parse_filter(many));
  EXPECT_THAT(parse_filter(many + " a = 1").error().message, HasSubstr("more than 1000 comparisons"));
}

TEST(FilterTest, BoundsOfAConjunction) {
  const auto filter = parse_filter("kind in (log, span) and severity >= warn and entity in (a, b*) and name = x and (value > 1 or \"no\") and pid = 7 and \"Text\"");
  ASSERT_TRUE(filter);
  const Filter::Bounds& bounds = filter->bounds();
  EXPECT_EQ(bounds.kinds, kind_bit(Kind::Log) | kind_bit(Kind::Span));
  EXPECT_EQ(bounds.severity_min, kWarn);
  EXPECT_THAT(bounds.entities, ElementsAre("a", "b*"));
  EXPECT_THAT(bounds.names, ElementsAre("x"));
  EXPECT_THAT(bounds.texts, ElementsAre("text"));
  EXPECT_THAT(bounds.attributes, ElementsAre(std::pair<std::string, std::string>("pid", "7")));
  EXPECT_TRUE(filter->reads_attributes());
  EXPECT_TRUE(filter->reads_body());
  EXPECT_FALSE(filter->reads_ids());
  EXPECT_TRUE(parse_filter("kind = log or entity = a")->bounds().entities.empty());
}

// Random filters over random events: a match always lies within the bounds.
TEST(FilterTest, BoundsLoseNothing) {
  RandomEvents random(test_seed());
  const auto term = [&] {
    return random.one_of({"kind = log", "kind in (sample, span)", "severity >= warn", "entity = service:*", "entity = host", "name = cpu.*",
                          "name in (t:1f, request.rate)", "pid = 7", "service = shop", "value > 50", "has body", "\"could\"", "body ~ not",
                          "not kind = alert", "severity < error", "has pid"});
  };
  std::size_t matched = 0;
  for (int i = 0; i < 500; ++i) {
    std::string text = term();
    for (std::size_t more = random.below(4); more > 0; --more) {
      text = random.below(4) == 0 ? fmt::format("({}) or {}", text, term()) : fmt::format("{} and {}", text, term());
    }
    const auto filter = parse_filter(text);
    ASSERT_TRUE(filter) << text;
    Query query;
    query.entities = filter->bounds().entities;
    query.names = filter->bounds().names;
    query.severity_min = filter->bounds().severity_min;
    query.attributes = filter->bounds().attributes;
    const Matcher matcher(query);
    for (int j = 0; j < 50; ++j) {
      const Event event = random.event(0);
      if (!filter->matches(event)) continue;
      ++matched;
      ASSERT_TRUE(matcher.event(event)) << text;
      ASSERT_NE(filter->bounds().kinds & kind_bit(event.kind), 0u) << text;
      for (const std::string& part : filter->bounds().texts) ASSERT_TRUE(contains_lower(event.body, part)) << text;
    }
  }
  EXPECT_GT(matched, 100u);
}

class Neighbours final : public Topology {
 public:
  Result<std::vector<std::string>> within(std::string_view entity, unsigned hops) const override {
    if (entity != "service:shop") return fail(Code::NotFound, fmt::format("no entity '{}'", entity));
    std::vector<std::string> all = {"service:shop"};
    if (hops >= 1) all.emplace_back("service:redis");
    if (hops >= 2) all.emplace_back("host");
    return all;
  }
};

TEST(FilterTest, NearAsksTheTopology) {
  Event event;
  event.entity = "host";
  auto filter = parse_filter("entity near service:shop/2 and kind = sample");
  ASSERT_TRUE(filter);
  EXPECT_TRUE(filter->needs_topology());
  EXPECT_FALSE(filter->matches(event));
  const auto resolved = filter->resolve(Neighbours());
  ASSERT_TRUE(resolved);
  EXPECT_FALSE(resolved->needs_topology());
  EXPECT_TRUE(resolved->matches(event));
  EXPECT_THAT(resolved->bounds().entities, ElementsAre("service:shop", "service:redis", "host"));
  EXPECT_FALSE(parse_filter("entity near service:shop")->resolve(Neighbours())->matches(event));
  const auto unknown = parse_filter("value > 1 entity near mount:/var/1")->resolve(Neighbours());
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().message, "filter, column 11: no entity 'mount:/var'");
}

}  // namespace
}  // namespace culprit::stream
