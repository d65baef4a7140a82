/* The program of a sandbox: holds its namespaces, and collects what ends in them, until it is told to end. */
#include <signal.h>
#include <sys/wait.h>

int main(void) {
  sigset_t awaited;
  sigemptyset(&awaited);
  sigaddset(&awaited, SIGTERM);
  sigaddset(&awaited, SIGINT);
  sigaddset(&awaited, SIGCHLD);
  sigprocmask(SIG_BLOCK, &awaited, 0);
  for (;;) {
    int received = 0;
    sigwait(&awaited, &received);
    if (received != SIGCHLD) return 0;
    while (waitpid(-1, 0, WNOHANG) > 0) continue;
  }
}
