/* Whether a fault that is asserted ends the program. */
#ifndef BASE_TEST_DEATHS_H
#define BASE_TEST_DEATHS_H

#include <stdbool.h>

/* Runs ${body} in a child process, whose standard error is thrown away; true if it died
 * of abort(). */
bool deaths_abort(void (*body)(void));

#endif
