// culprit feedback N RANK right|wrong|partly
#include <fmt/format.h>

#include "ui/cli/command.h"

namespace culprit::cli {

void add_feedback(CLI::App& app, Session& session) {
  struct Options {
    std::int64_t incident = 0;
    std::int64_t rank = 0;
    std::string verdict, note;
  };
  const auto options = std::make_shared<Options>();
  app.add_option("N", options->incident, "The incident's number")->required();
  app.add_option("RANK", options->rank, "The cause's number in its answer; 0 = the whole answer")->required();
  app.add_option("VERDICT", options->verdict, "right, wrong or partly")
      ->required()
      ->check(CLI::IsMember({"right", "wrong", "partly"}));
  app.add_option("--note", options->note, "In your words: what it really was")->type_name("TEXT");
  app.callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      const Json body = {{"rank", options->rank}, {"verdict", options->verdict}, {"note", options->note}};
      ASSIGN(const std::string answer,
             session.client().post(fmt::format("/api/v1/incidents/{}/feedback", options->incident), body));
      if (session.json())
        session.out << answer;
      else
        session.out << fmt::format("remembered: incident {}, cause {}: {}\n", options->incident,
                                   options->rank, options->verdict);
      return kAnswered;
    };
  });
}

}  // namespace culprit::cli
