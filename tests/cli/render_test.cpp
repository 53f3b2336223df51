#include "ui/cli/render.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

#include "daemon/base/clock.h"
#include "tests/golden/golden.h"

namespace culprit::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

Json document(const std::string& name) {
  std::ifstream file(fmt::format("{}/{}.json", CULPRIT_API_DOCUMENTS, name));
  return Json::parse(file);
}

class RenderTest : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
  }
  Style style_{.now_wall_ns = *parse_wall("2026-11-23T14:03:00Z")};
};

std::size_t widest(const std::string& text) {
  std::size_t width = 0;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    width = std::max(width, display_width(text.substr(start, end - start)));
    start = end + 1;
  }
  return width;
}

// Every page as a person sees it; within the width.
TEST_F(RenderTest, LooksLikeThis) {
  const struct {
    const char* document;
    const char* golden;
    std::string text;
  } cases[] = {
      {"why-shop", "why-shop.txt", render_explanation(document("why-shop"), style_)},
      {"why-redis", "why-healthy.txt", render_explanation(document("why-redis"), style_)},
      {"why-nginx", "why-inconclusive.txt", render_explanation(document("why-nginx"), style_)},
      {"summary", "summary.txt", render_summary(document("summary"), style_)},
      {"incidents", "incidents.txt", render_incidents(document("incidents"), style_)},
      {"events", "events.txt", render_events(document("events"), style_)},
      {"diff", "diff.txt", render_diff(document("diff"), style_)},
      {"series", "series.txt", render_series(document("series"), style_)},
      {"store", "store.txt", render_store(document("store"), style_)},
      {"services", "services.txt", render_services(document("services"), style_)},
      {"status", "status.txt", render_status(document("status"), style_)},
      {"status", "status-channels.txt", render_channels(document("status"), style_)},
      {"doctor", "doctor.txt", render_doctor(document("doctor"), style_)},
      {"config", "config.txt", render_config(document("config"), style_)},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.golden);
    expect_golden(std::string("cli/") + c.golden, c.text);
    EXPECT_LE(widest(c.text), kWidth);
  }
}

// The day is told only when it is another one.
TEST_F(RenderTest, OtherDaysAreDated) {
  style_.now_wall_ns = *parse_wall("2026-11-24T14:03:00Z");
  EXPECT_THAT(render_explanation(document("why-shop"), style_), HasSubstr("11-23 14:02:08  pid 4211"));
}

// More causes and evidence than fit are counted, and --all shows them.
TEST_F(RenderTest, AllShowsWhatIsHidden) {
  Json why = document("why-shop");
  for (int i = 0; i < 5; ++i) why["candidates"].push_back(why["candidates"][1]);
  for (int i = 0; i < 20; ++i)
    why["candidates"][0]["evidence"].push_back({{"text", fmt::format("extra {}", i)}, {"for", true}});
  const std::string brief = render_explanation(why, style_);
  EXPECT_THAT(brief, HasSubstr("and 16 more (--all)"));
  EXPECT_THAT(brief, HasSubstr("... 4 less likely (--all)"));
  EXPECT_THAT(brief, Not(HasSubstr("extra 19")));
  const std::string all = render_explanation(why, style_, true);
  EXPECT_THAT(all, HasSubstr("extra 19"));
  EXPECT_THAT(all, Not(HasSubstr("--all")));
}

// Long and hostile texts stay within the width and cannot steer the terminal.
TEST_F(RenderTest, HostileTextIsTamed) {
  Json why = document("why-shop");
  std::string words;
  for (int i = 0; i < 60; ++i) words += "word ";
  why["headline"] = words;
  why["candidates"][0]["title"] = words + "\x1b[2J";
  why["candidates"][0]["evidence"][0]["text"] = "a\nb\rc\x1b]0;t\x07" + words;
  why["candidates"][0]["evidence"][0]["sources"] = {words};
  const std::string text = render_explanation(why, style_);
  EXPECT_LE(widest(text), kWidth);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("\r")));
}

// A document with holes or wrong types is shown as far as it goes; nothing throws.
TEST_F(RenderTest, HolesAreNoCrash) {
  const auto all = [&](const Json& broken) {
    (void)render_explanation(broken, style_);
    for (const auto render : {render_summary, render_incidents, render_events, render_services, render_status,
                              render_channels, render_doctor, render_config}) {
      (void)render(broken, style_);
    }
  };
  for (const char* name :
       {"why-shop", "summary", "incidents", "events", "services", "status", "doctor", "config"}) {
    const Json whole = document(name);
    const Json flat = whole.flatten();
    for (const auto& [pointer, value] : flat.items()) {
      for (const Json& replacement :
           {Json(nullptr), Json("text"), Json(-1e300), Json(Json::array({1})), Json(Json::object())}) {
        Json broken = whole;
        broken[Json::json_pointer(pointer)] = replacement;
        all(broken);
      }
    }
    for (const auto& [key, value] : whole.items()) {
      Json broken = whole;
      broken[key] = "text";
      all(broken);
      broken.erase(key);
      all(broken);
    }
  }
  all(Json());
  all(Json::array({Json::object()}));
}

}  // namespace
}  // namespace culprit::cli
