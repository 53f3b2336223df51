#include "daemon/api/handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/api/fake_backend.h"

namespace culprit::api {
namespace {

using testing::HasSubstr;

constexpr Asset kPage[] = {{"/", "text/html", "<!doctype html>"}, {"/page.js", "text/javascript", "1"}};

class HandlerTest : public testing::Test {
 protected:
  Response ask(Request request) { return handle(request, backend_, kPage); }
  Response get(const char* target) { return ask({.method = "GET", .target = target}); }
  static Json error_of(const Response& response) { return Json::parse(response.body)["error"]; }

  FakeBackend backend_;
};

TEST_F(HandlerTest, AnswersEveryDocument) {
  for (const char* target :
       {"/api/v1/summary", "/api/v1/services", "/api/v1/incidents", "/api/v1/incidents/7",
        "/api/v1/events?limit=3", "/api/v1/status", "/api/v1/doctor", "/api/v1/config"}) {
    const Response response = get(target);
    EXPECT_EQ(response.status, 200U) << target;
    EXPECT_EQ(response.content_type, "application/json");
    EXPECT_EQ(Json::parse(response.body)["api"], 1) << target;
  }
  EXPECT_THAT(get("/metrics").content_type, HasSubstr("version=0.0.4"));
  EXPECT_EQ(get("/").body, "<!doctype html>");
  EXPECT_EQ(get("/page.js").content_type, "text/javascript");
  EXPECT_THAT(get("/api/v1/incidents/7/export").body, HasSubstr("\"incident\":7"));
}

TEST_F(HandlerTest, WhyPassesTheRequestOn) {
  const Response response =
      ask({.method = "POST", .target = "/api/v1/why", .body = R"({"service":"shop","since_s":60})"});
  EXPECT_EQ(response.status, 200U);
  EXPECT_EQ(Json::parse(response.body)["incident"], 7);
  ASSERT_TRUE(backend_.asked_why);
  EXPECT_EQ(backend_.asked_why->since_s, 60);
}

// An unknown service is answered with the names it may have meant, or with those there are.
TEST_F(HandlerTest, UnknownServiceOffersCandidates) {
  Response response = ask({.method = "POST", .target = "/api/v1/why", .body = R"({"service":"shpo"})"});
  EXPECT_EQ(response.status, 404U);
  EXPECT_EQ(error_of(response)["code"], "not_found");
  EXPECT_EQ(error_of(response)["suggestions"], Json({"shop"}));
  response = ask({.method = "POST", .target = "/api/v1/why", .body = R"({"service":"quite-another-thing"})"});
  EXPECT_EQ(error_of(response)["suggestions"], Json({"nginx", "redis", "shop"}));
}

TEST_F(HandlerTest, ErrorsHaveFittingStatus) {
  const struct {
    Request request;
    unsigned status;
    const char* code;
  } cases[] = {
      {{.method = "GET", .target = "/api/v1/sumary"}, 404, "not_found"},
      {{.method = "GET", .target = "/../etc/passwd"}, 404, "not_found"},
      {{.method = "GET", .target = "/api/v1/incidents/8"}, 404, "not_found"},
      {{.method = "GET", .target = "/api/v1/incidents/8/export"}, 404, "not_found"},
      {{.method = "GET", .target = "/api/v1/incidents/7/other"}, 404, "not_found"},
      {{.method = "GET", .target = "/api/v1/incidents/x"}, 400, "invalid"},
      {{.method = "GET", .target = "/api/v1/events?limit=x"}, 400, "invalid"},
      {{.method = "GET", .target = "no-slash"}, 400, "invalid"},
      {{.method = "POST", .target = "/api/v1/why", .body = "{"}, 400, "invalid"},
      {{.method = "GET", .target = "/api/v1/why"}, 405, "method"},
      {{.method = "POST", .target = "/api/v1/summary"}, 405, "method"},
      {{.method = "POST", .target = "/"}, 405, "method"},
      {{.method = "POST", .target = "/api/v1/incidents/7"}, 405, "method"},
      {{.method = "GET", .target = "/api/v1/incidents/7/feedback"}, 405, "method"},
      {{.method = "DELETE", .target = "/api/v1/incidents/7"}, 405, "method"},
  };
  for (const auto& c : cases) {
    const Response response = ask(c.request);
    EXPECT_EQ(response.status, c.status) << c.request.target;
    EXPECT_EQ(error_of(response)["code"], c.code) << c.request.target;
    EXPECT_EQ(response.allow.empty(), c.status != 405);
  }
  EXPECT_THAT(error_of(get("/api/v1/sumary"))["suggestions"].dump(), HasSubstr("/api/v1/summary"));
}

TEST_F(HandlerTest, FeedbackReachesTheBackend) {
  const char* body = R"({"rank": 1, "verdict": "right"})";
  EXPECT_EQ(ask({.method = "POST", .target = "/api/v1/incidents/7/feedback", .body = body}).status, 200U);
  ASSERT_TRUE(backend_.asked_feedback);
  EXPECT_EQ(backend_.asked_feedback->rank, 1);
}

// On loopback: reading only, only under a local name, only for the page itself.
TEST_F(HandlerTest, LoopbackRefusesOtherSites) {
  const auto loopback = [](std::string method, std::string target, std::string host, std::string origin,
                           std::string type, std::string site) {
    return Request{.door = Door::Loopback,
                   .method = std::move(method),
                   .target = std::move(target),
                   .body = R"({"service":"shop"})",
                   .host = std::move(host),
                   .origin = std::move(origin),
                   .content_type = std::move(type),
                   .fetch_site = std::move(site)};
  };
  const struct {
    const char* name;
    Request request;
    unsigned status;
  } cases[] = {
      {"page", loopback("GET", "/", "127.0.0.1:7117", "", "", "none"), 200},
      {"localhost, forwarded port",
       loopback("GET", "/api/v1/summary", "localhost:9999", "", "", "same-origin"), 200},
      {"IPv6", loopback("GET", "/api/v1/summary", "[::1]:7117", "", "", ""), 200},
      {"metrics", loopback("GET", "/metrics", "localhost", "", "", ""), 200},
      {"rebound name", loopback("GET", "/api/v1/summary", "evil.example:7117", "", "", "same-origin"), 403},
      {"name that begins well", loopback("GET", "/api/v1/summary", "localhost.evil.example", "", "", ""),
       403},
      {"no host", loopback("GET", "/api/v1/summary", "", "", "", ""), 403},
      {"broken host", loopback("GET", "/api/v1/summary", "[", "", "", ""), 403},
      {"other origin", loopback("GET", "/api/v1/summary", "localhost:7117", "http://evil.example", "", ""),
       403},
      {"cross-site read", loopback("GET", "/api/v1/events", "localhost:7117", "", "", "cross-site"), 403},
      {"why of the page",
       loopback("POST", "/api/v1/why", "localhost:7117", "http://localhost:7117", "application/json",
                "same-origin"),
       200},
      {"why of a form", loopback("POST", "/api/v1/why", "localhost:7117", "", "text/plain", ""), 400},
      {"why of another site",
       loopback("POST", "/api/v1/why", "localhost:7117", "http://evil.example", "application/json", ""), 403},
      {"why of a sandbox", loopback("POST", "/api/v1/why", "localhost:7117", "null", "application/json", ""),
       403},
      {"feedback",
       loopback("POST", "/api/v1/incidents/7/feedback", "localhost:7117", "", "application/json", ""), 403},
  };
  for (const auto& c : cases) EXPECT_EQ(ask(c.request).status, c.status) << c.name;
  EXPECT_FALSE(backend_.asked_feedback);
}

// What a backend does wrong costs its request only: bytes that are no UTF-8, exceptions, error codes.
class BrokenBackend : public FakeBackend {
 public:
  Result<Json> summary() override { return Json{{"api", 1}, {"host", "a\xff\xfe"}}; }
  Result<Json> services() override { return Json(1).at("nothing"); }
  Result<Json> status() override { return fail(Code::Busy, "try later"); }
  Result<Json> doctor() override { return fail(Code::Unsupported, "not here"); }
};

TEST(Handler, SurvivesItsBackend) {
  BrokenBackend backend;
  const auto get = [&](const char* target) {
    return handle({.method = "GET", .target = target}, backend, {});
  };
  EXPECT_EQ(get("/api/v1/summary").status, 200U);
  EXPECT_FALSE(Json::parse(get("/api/v1/summary").body, nullptr, false).is_discarded());
  EXPECT_EQ(get("/api/v1/services").status, 500U);
  EXPECT_EQ(get("/api/v1/status").status, 503U);
  EXPECT_EQ(get("/api/v1/doctor").status, 501U);
  EXPECT_EQ(get("/").status, 404U);
}

}  // namespace
}  // namespace culprit::api
