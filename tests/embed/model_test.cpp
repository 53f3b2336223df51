#include "embed/model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace culprit::embed {
namespace {

// The same text gives the same vector, on every machine: vectors are stored.
TEST(Model, IsDeterministic) {
  const Model model;
  const Vector vector = model.vector("FATAL: sorry, too many clients already");
  EXPECT_EQ(vector, model.vector("FATAL: sorry, too many clients already"));
  EXPECT_EQ(vector, model.vector("fatal  SORRY too many client already"));  // case, punctuation, plural
  float square = 0;
  for (const float value : vector) square += value * value;
  EXPECT_NEAR(square, 1.0F, 1e-5F);
}

TEST(Model, NumbersDoNotMatterTheirPresenceDoes) {
  const Model model;
  EXPECT_EQ(model.vector("process 4211 waits 17 ms"), model.vector("process 9 waits 812345 ms"));
  EXPECT_NE(model.vector("process waits"), model.vector("process 9 waits"));
}

// Texts about the same thing are nearer than texts about different things.
TEST(Model, LikeIsNearLike) {
  Model model;
  const std::string_view texts[] = {"connection slots exhausted, too many clients", "disk is full, no space left on device",
                                    "certificate has expired", "replica lags behind the primary"};
  model.learn(texts);
  const struct { const char* query; std::size_t nearest; } cases[] = {
      {"sorry, too many clients already", 0}, {"No space left on the device", 1}, {"x509: certificate expired yesterday", 2}, {"replication lag of the standby replica", 3}};
  for (const auto& c : cases) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < std::size(texts); ++i) {
      if (dot(model.vector(c.query), model.vector(texts[i])) > dot(model.vector(c.query), model.vector(texts[best]))) best = i;
    }
    EXPECT_EQ(best, c.nearest) << c.query;
  }
  // Parts of words count: compound names in code are near the words.
  EXPECT_GT(dot(model.vector("NotEnoughReplicasException"), model.vector("not enough replicas")), 0.3F);
}

// Nothing, noise and very long texts give a vector without trouble.
TEST(Model, OddTexts) {
  const Model model;
  for (const std::string& text : {std::string(), std::string("--- ... !!!"), std::string("\xff\xfe\x00\x01", 4), std::string(100'000, 'a'), std::string(100'000, ' ')}) {
    const Vector vector = model.vector(text);
    for (const float value : vector) ASSERT_TRUE(std::isfinite(value));
  }
  EXPECT_EQ(model.vector(""), Vector{});
}

}  // namespace
}  // namespace culprit::embed
