/*
 * tests/fuzz/scratch.h: a directory of a fuzzer's own.
 *
 * It is in memory where there is a place for it: a size that is made up may be that of the whole
 * disk, and its room is reserved there, at which other fuzzers could write no more.
 */
#ifndef FUZZ_SCRATCH_H
#define FUZZ_SCRATCH_H

#define SCRATCH_FILE_MAX 1048576 /* bytes: what is larger is EFBIG, and no signal */
#define SCRATCH_PATH_MAX 64      /* bytes, with the zero */

/* Open, made by the first call of a process and removed at its end; never closed. */
int scratch_folder(void);
const char *scratch_path(void); /* of it */

#endif
