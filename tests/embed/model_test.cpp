#include "embed/model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "embed/kernels.h"
#include "embed/train.h"

namespace culprit::embed {
namespace {

const std::vector<TextGroup>& groups() {
  static const std::vector<TextGroup> kGroups = {
      {{"connection slots exhausted, too many clients", "nobody can log in any more", "sorry, too many clients already"}},
      {{"disk is full, no space left on device", "the volume has no room", "writes fail because nothing is free"}},
      {{"certificate has expired", "https fails since today", "x509 not valid any more"}},
      {{"replica lags behind the primary", "the standby shows old rows", "replication is minutes late"}}};
  return kGroups;
}

const Model& model() {
  static const Trained kTrained = *train(groups(), {.rows = 1024, .batch = 4});
  static const Model kModel = *Model::decode(encode_model(kTrained.rows, kTrained.input_hash), "test");
  return kModel;
}

// The same text gives the same vector, on every machine: vectors are stored.
TEST(Model, IsDeterministic) {
  const Vector vector = model().vector("FATAL: sorry, too many clients already");
  EXPECT_EQ(vector, model().vector("FATAL: sorry, too many clients already"));
  EXPECT_EQ(vector, model().vector("fatal  SORRY too many client already"));  // case, punctuation, plural
  float square = 0;
  for (const float value : vector) square += value * value;
  EXPECT_NEAR(square, 1.0F, 1e-5F);
}

// Training twice gives the same bytes, and learns.
TEST(Model, TrainingIsDeterministic) {
  const Trained again = *train(groups(), {.rows = 1024, .batch = 4});
  EXPECT_EQ(Model::decode(encode_model(again.rows, again.input_hash), "again")->name(), model().name());
  EXPECT_LT(again.loss_last, again.loss_first);
  auto other = groups();
  other[0].texts[1] += "!";
  EXPECT_NE(train(other, {.rows = 1024, .batch = 4})->input_hash, again.input_hash);
  EXPECT_EQ(train({}, {}).error().code, Code::Invalid);
  EXPECT_EQ(train(groups(), {.rows = 1000}).error().code, Code::Invalid);
}

// All instruction sets give the same bits.
TEST(Model, KernelsAgree) {
  std::vector<std::int8_t> row(kDimensions);
  std::vector<float> a(kDimensions), b(kDimensions);
  for (std::size_t i = 0; i < kDimensions; ++i) {
    row[i] = static_cast<std::int8_t>(i * 37 % 255 - 127);
    a[i] = b[i] = static_cast<float>(i) * 0.37F - 11.0F;
  }
  kernels().add_row(a.data(), row.data(), 0.0137F, kDimensions);
  plain_kernels().add_row(b.data(), row.data(), 0.0137F, kDimensions);
  EXPECT_EQ(a, b) << kernels().name;
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{16}, std::size_t{250}, kDimensions}) {
    EXPECT_EQ(kernels().dot(a.data(), b.data(), size), plain_kernels().dot(a.data(), b.data(), size)) << size;
  }
}

// A file that is damaged, cut off or of another version is refused by reason.
TEST(Model, RefusesOtherFiles) {
  const Trained trained = *train(groups(), {.rows = 64, .batch = 4});
  const std::string bytes = encode_model(trained.rows, trained.input_hash);
  EXPECT_EQ(Model::decode(bytes, "m")->input_hash(), trained.input_hash);
  for (std::size_t cut = 0; cut < bytes.size(); cut += 487) {
    EXPECT_EQ(Model::decode(bytes.substr(0, cut), "m").error().code, Code::Corrupt) << cut;
  }
  for (std::size_t at = 64; at < bytes.size(); at += 487) {
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    EXPECT_EQ(Model::decode(flipped, "m").error().code, Code::Corrupt) << at;
  }
  std::string newer = bytes;
  newer[8] = 9;
  const auto error = Model::decode(newer, "m").error();
  EXPECT_EQ(error.code, Code::Unsupported);
  EXPECT_NE(error.message.find("culprit knowledge train"), std::string::npos);
  EXPECT_EQ(Model::load("/nowhere/model.bin").error().code, Code::NotFound);
}

TEST(Model, NumbersDoNotMatterTheirPresenceDoes) {
  EXPECT_EQ(model().vector("process 4211 waits 17 ms"), model().vector("process 9 waits 812345 ms"));
  EXPECT_NE(model().vector("process waits"), model().vector("process 9 waits"));
}

// Texts about the same thing are nearer than texts about different things.
TEST(Model, LikeIsNearLike) {
  const struct { const char* query; std::size_t nearest; } cases[] = {
      {"sorry, too many clients already", 0}, {"No space left on the device", 1}, {"x509: certificate expired yesterday", 2}, {"replication lag of the standby replica", 3}};
  for (const auto& c : cases) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < groups().size(); ++i) {
      if (dot(model().vector(c.query), model().vector(groups()[i].texts[0])) > dot(model().vector(c.query), model().vector(groups()[best].texts[0]))) best = i;
    }
    EXPECT_EQ(best, c.nearest) << c.query;
  }
  // Parts of words count: compound names in code are near the words.
  EXPECT_GT(dot(model().vector("NotEnoughReplicasException"), model().vector("not enough replicas")), 0.3F);
}

// Nothing, noise and very long texts give a vector without trouble.
TEST(Model, OddTexts) {
  for (const std::string& text : {std::string(), std::string("--- ... !!!"), std::string("\xff\xfe\x00\x01", 4), std::string(100'000, 'a'), std::string(100'000, ' ')}) {
    const Vector vector = model().vector(text);
    for (const float value : vector) ASSERT_TRUE(std::isfinite(value));
  }
  EXPECT_EQ(model().vector(""), Vector{});
}

}  // namespace
}  // namespace culprit::embed
