#include "daemon/api/query.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/base/clock.h"

namespace culprit::api {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<EventQuery> query_of(std::string_view target) {
  ASSIGN(const Target parsed, parse_target(target));
  return parse_event_query(parsed.parameters);
}

TEST(Target, DecodesPathAndParameters) {
  const auto target = parse_target("/a%2fb+c?x=1%202+3&y&&z=%C3%A9&x=2=3");
  ASSERT_TRUE(target);
  EXPECT_EQ(target->path, "/a/b+c");
  EXPECT_EQ(target->parameters, (Parameters{{"x", "1 2 3"}, {"y", ""}, {"z", "\xC3\xA9"}, {"x", "2=3"}}));
}

// Bytes that are no URL are refused with a reason, whatever they are.
TEST(Target, RefusesWhatIsNoUrl) {
  std::string many = "/?";
  for (int i = 0; i < 100; ++i) many += "a=1&";
  for (const std::string& text : {std::string(""), std::string("a"), std::string("*"), std::string("/%"),
                                  std::string("/%4"), std::string("/%zz"), std::string("/?a=%00"),
                                  std::string("/?a=%ff"), std::string("/\xC0\xAF"), many}) {
    const auto target = parse_target(text);
    ASSERT_FALSE(target) << text;
    EXPECT_EQ(target.error().code, Code::Invalid);
  }
}

TEST(EventQuery, ReadsEveryParameter) {
  const auto query = query_of(
      "/e?entity=service:shop,pid:42&entity=%22endpoint:shop%20GET%20/"
      "a,b%22&kind=log,kernel&name=syscall.errors{errno=%22EIO%22,x=%221%22},t:*"
      "&text=lock&severity=warn&from=2026-11-23T14:02:08Z&to=2026-11-23T15:02:08%2B01:00&limit=7");
  ASSERT_TRUE(query) << query.error().message;
  EXPECT_THAT(query->entities, ElementsAre("service:shop", "pid:42", "endpoint:shop GET /a,b"));
  EXPECT_THAT(query->kinds, ElementsAre(stream::Kind::Log, stream::Kind::Kernel));
  EXPECT_THAT(query->names, ElementsAre("syscall.errors{errno=\"EIO\",x=\"1\"}", "t:*"));
  EXPECT_EQ(query->text, "lock");
  EXPECT_EQ(query->severity_min, stream::kWarn);
  EXPECT_EQ(query->from_wall_ns, parse_wall("2026-11-23T14:02:08Z"));
  EXPECT_EQ(query->to_wall_ns, query->from_wall_ns);
  EXPECT_EQ(query->limit, 7U);
}

TEST(EventQuery, DefaultsAndEmptyValuesMatchEverything) {
  const auto query = query_of("/e?entity=&kind=&limit=");
  ASSERT_TRUE(query);
  EXPECT_TRUE(query->entities.empty());
  EXPECT_TRUE(query->kinds.empty());
  EXPECT_EQ(query->limit, kEventsLimitDefault);
}

// A wrong value is named together with what would be right.
TEST(EventQuery, RefusesWrongValues) {
  const struct {
    const char* target;
    const char* says;
  } cases[] = {
      {"/e?kind=logs", "sample, log"},
      {"/e?severity=bad", "trace, debug"},
      {"/e?limit=0", "1 to 10000"},
      {"/e?limit=10001", "1 to 10000"},
      {"/e?limit=-1", "1 to 10000"},
      {"/e?limit=99999999999999999999999", "1 to 10000"},
      {"/e?from=yesterday", "RFC 3339"},
      {"/e?entity=pid:x", "pid:4211"},
      {"/e?entity=pid:0", "pid:4211"},
      {"/e?from=2026-11-23T14:02:08Z&to=2026-11-23T14:02:07Z", "later"},
      {"/e?entitty=x", "no parameter 'entitty'"},
  };
  for (const auto& c : cases) {
    const auto query = query_of(c.target);
    ASSERT_FALSE(query) << c.target;
    EXPECT_THAT(query.error().message, HasSubstr(c.says));
  }
}

TEST(Why, ReadsServiceAndWindow) {
  const auto why = parse_why(R"({"service": "shop", "since_s": 60})");
  ASSERT_TRUE(why);
  EXPECT_EQ(why->service, "shop");
  EXPECT_EQ(why->since_s, 60);
  EXPECT_EQ(parse_why(R"({"service": "shop"})")->since_s, 300);
}

TEST(Why, RefusesEverythingElse) {
  for (const char* body : {"", "null", "[]", "{", "{}", R"({"service": 7})", R"({"service": ""})",
                           R"({"service": "a", "since_s": 0})", R"({"service": "a", "since_s": -1})",
                           R"({"service": "a", "since_s": 1e300})", R"({"service": "a", "since_s": "5m"})",
                           R"({"service": "a", "sinse": 5})", "{\"service\": \"\xff\"}"}) {
    const auto why = parse_why(body);
    ASSERT_FALSE(why) << body;
    EXPECT_EQ(why.error().code, Code::Invalid);
  }
}

// Nesting as deep as a body allows neither overflows the stack nor is accepted.
TEST(Why, SurvivesDeepNesting) {
  EXPECT_FALSE(parse_why(std::string(64 << 10, '[')));
  EXPECT_FALSE(parse_why("{\"service\":" + std::string(30 << 10, '[') + std::string(30 << 10, ']') + "}"));
}

TEST(Feedback, ReadsAndRefuses) {
  const auto feedback = parse_feedback(R"({"rank": 2, "verdict": "partly", "note": "also the disk"})");
  ASSERT_TRUE(feedback);
  EXPECT_EQ(feedback->rank, 2);
  EXPECT_EQ(feedback->verdict, Verdict::Partly);
  EXPECT_EQ(feedback->note, "also the disk");
  for (const char* body : {"{}", R"({"rank": 1})", R"({"verdict": "right"})",
                           R"({"rank": -1, "verdict": "right"})", R"({"rank": 1.5, "verdict": "right"})",
                           R"({"rank": 1, "verdict": "maybe"})", R"({"rank": 1, "verdict": "right", "x": 1})",
                           R"({"rank": 18446744073709551615, "verdict": "right"})"}) {
    EXPECT_FALSE(parse_feedback(body)) << body;
  }
}

TEST(IncidentNumber, IsAPositiveNumber) {
  EXPECT_EQ(parse_incident_id("7"), IncidentId{7});
  for (const char* text : {"", "0", "-1", "7a", " 7", "99999999999999999999"})
    EXPECT_FALSE(parse_incident_id(text)) << text;
}

}  // namespace
}  // namespace culprit::api
