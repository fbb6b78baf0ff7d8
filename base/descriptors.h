/* base/descriptors.h: how many descriptors a process may have. */
#ifndef BASE_DESCRIPTORS_H
#define BASE_DESCRIPTORS_H

/* As many as it may allow itself: the soft RLIMIT_NOFILE becomes the hard one, which what it runs
 * inherits. At the start of a program. */
void descriptors_allow(void);

#endif
