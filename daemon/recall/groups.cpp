#include "daemon/recall/groups.h"

namespace culprit::recall {

std::vector<embed::TextGroup> text_groups(const graph::Knowledge& known) {
  std::vector<embed::TextGroup> groups;
  for (const graph::Pack& pack : known.packs()) {
    for (const graph::FailureMode& mode : pack.modes) {
      embed::TextGroup group;
      group.texts.push_back(pack.title + ": " + mode.name + ". " + mode.summary);
      group.texts.push_back(pack.middleware + " " + mode.name);
      for (const std::string& text : mode.paraphrases) group.texts.push_back(text);
      for (const graph::Symptom& symptom : mode.symptoms) {
        if (std::string text = graph::telling_part(symptom); text.size() > 1) group.texts.push_back(std::move(text));
      }
      for (const graph::Cause& cause : mode.causes) group.texts.push_back(cause.text);
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

std::string mode_text(const graph::Document& document) { return document.title + ". " + document.body + " " + document.signal; }

}  // namespace culprit::recall
