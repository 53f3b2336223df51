#include "ui/cli/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ui/cli/document.h"

namespace culprit::cli {
namespace {

using testing::ElementsAre;

TEST(Page, WidthsCountCharactersNotBytes) {
  EXPECT_EQ(display_width("é…"), 2U);
  EXPECT_EQ(display_width("\x1b[1mab\x1b[0m"), 2U);
  EXPECT_EQ(pad("é", 3), "é  ");
  EXPECT_EQ(pad_left("é", 3), "  é");
  EXPECT_EQ(cut("éàü", 3), "éàü");
  EXPECT_EQ(cut("éàüx", 3), "éà…");
}

TEST(Page, WrapsAtWords) {
  EXPECT_THAT(wrap("one two three", 7), ElementsAre("one two", "three"));
  EXPECT_THAT(wrap("a-very-long-word b", 4), ElementsAre("a-very-long-word", "b"));
  EXPECT_THAT(wrap("", 4), ElementsAre(""));
  EXPECT_THAT(wrap("   ", 4), ElementsAre(""));
}

TEST(Page, BothEndsKeepTheRightSide) {
  EXPECT_EQ(both_ends("left", "right", 0, 20), "left           right\n");
  EXPECT_EQ(both_ends("left and more left", "right", 2, 20), "left and     right\n  more left\n");
}

TEST(Page, SharesNeverRoundUpToComplete) {
  EXPECT_EQ(share_text(1), "100 %");
  EXPECT_EQ(share_text(0.99999), "> 99.9 %");
  EXPECT_EQ(share_text(0.999), "99.9 %");
  EXPECT_EQ(share_text(0.5), "50 %");
  EXPECT_EQ(share_text(0.00001), "< 0.1 %");
  EXPECT_EQ(share_text(0), "0 %");
}

TEST(Page, TablesAlignAndWrapTheirLastColumn) {
  Table table({{"name"}, {"n", Table::Align::Right}, {"text"}});
  table.add({"a", "1", "short"});
  table.add({"long name", "1000", "this one is far too long for its column"});
  EXPECT_EQ(table.text({.width = 40}, 0),
            "name          n  text\n"
            "a             1  short\n"
            "long name  1000  this one is far too\n"
            "                 long for its column\n");
  EXPECT_EQ(Table({{"nothing"}}).text({}), "");
}

TEST(Page, ColourOnlyWhereAllowed) {
  EXPECT_EQ(paint({.color = false}, Paint::Red, "x"), "x");
  EXPECT_EQ(paint({.color = true}, Paint::Red, "x"), "\x1b[31mx\x1b[0m");
}

// Text from outside cannot move the cursor, colour the screen or break the line.
TEST(Document, TextIsFitForATerminal) {
  const Json document = {{"a", "x\x1b[31my\nz\t\x07"}, {"b", 7}, {"c", nullptr}, {"d", {"p", 1, "q"}}};
  EXPECT_EQ(text(document, "a").find('\x1b'), std::string::npos);
  EXPECT_EQ(text(document, "a").find('\n'), std::string::npos);
  EXPECT_EQ(text(document, "b", "none"), "none");
  EXPECT_EQ(text(document, "missing", "none"), "none");
  EXPECT_EQ(text(Json(5), "a", "none"), "none");
  EXPECT_FALSE(number(document, "c"));
  EXPECT_EQ(scalar(field(document, "c")), "-");
  EXPECT_THAT(texts(document, "d"), ElementsAre("p", "q"));
  EXPECT_TRUE(list(document, "b").empty());
}

}  // namespace
}  // namespace culprit::cli
