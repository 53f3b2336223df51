// Notify: tells the service manager (systemd's sd_notify protocol) how far the start is. Without one it does nothing.
#pragma once

namespace culprit::app {

void notify_ready();
void notify_stopping();

}  // namespace culprit::app
