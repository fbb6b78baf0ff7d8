/* The local driver with all the isolation that this machine grants us. */
#include "local_cases.h"

int main(int argc, char *argv[])
{
	return local_cases_main(argc, argv, "local", 0);
}
