/*
 * An MPI program for tests: its ranks tell who and where they are, add up their numbers, and then do what the first
 * argument says: `end`, `fail` (rank 1 ends all with 7), `wait` (for SIGTERM; then two seconds of work, and 9).
 *
 * It needs no header of MPI: these are the names that Open MPI's library gives to what mpi.h declares.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t terminated = 0;

static void terminate(int signal) {
  (void)signal;
  terminated++;
}

static void *library;

static void *symbol(const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) {
    fprintf(stderr, "no %s: %s\n", name, dlerror());
    exit(1);
  }
  return found;
}

int main(int argc, char **argv) {
  library = dlopen("libmpi.so.40", RTLD_NOW | RTLD_GLOBAL);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  int (*init)(int *, char ***) = symbol("MPI_Init");
  int (*comm_rank)(void *, int *) = symbol("MPI_Comm_rank");
  int (*comm_size)(void *, int *) = symbol("MPI_Comm_size");
  int (*processor)(char *, int *) = symbol("MPI_Get_processor_name");
  int (*allreduce)(const void *, void *, int, void *, void *, void *) = symbol("MPI_Allreduce");
  int (*barrier)(void *) = symbol("MPI_Barrier");
  int (*abort_all)(void *, int) = symbol("MPI_Abort");
  int (*finalize)(void) = symbol("MPI_Finalize");
  void *world = symbol("ompi_mpi_comm_world");
  int rank, size, length, sum = 0;
  char host[1024];
  setvbuf(stdout, NULL, _IOLBF, 0);
  init(&argc, &argv);
  comm_rank(world, &rank);
  comm_size(world, &size);
  processor(host, &length);
  allreduce(&rank, &sum, 1, symbol("ompi_mpi_int"), symbol("ompi_mpi_op_sum"), world);
  printf("rank %d of %d on %s, sum %d\n", rank, size, host, sum);
  if (rank == size - 1) {
    for (int i = 2; i < argc; i++) printf("argument %s\n", argv[i]);
    const char *greeting = getenv("GREETING");
    printf("greeting %s\n", greeting == NULL ? "" : greeting);
  }
  barrier(world);
  if (strcmp(argv[1], "fail") == 0 && rank == 1) abort_all(world, 7);
  if (strcmp(argv[1], "wait") == 0 || strcmp(argv[1], "fail") == 0) {
    struct sigaction action = {.sa_handler = terminate};
    sigaction(SIGTERM, &action, NULL);
    printf("rank %d waits\n", rank);
    while (!terminated) usleep(10000);
    for (int i = 0; i < 20; i++) usleep(100000);
    printf("rank %d got SIGTERM %d times\n", rank, (int)terminated);
    finalize();
    return 9;
  }
  finalize();
  return 0;
}
