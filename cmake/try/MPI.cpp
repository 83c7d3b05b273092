#include <mpi.h>
int main(int count, char** arguments) { return MPI_Init(&count, &arguments); }
