/* gateway/selector.h: "k=v,k2=v2", all of which an object's labels have to match. */
#ifndef GATEWAY_SELECTOR_H
#define GATEWAY_SELECTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "openshell/datamodel/v1/datamodel.pb-c.h"

#define SELECTOR_TERMS_MAX 16
#define SELECTOR_TEXT_MAX  4096 /* bytes */

struct selector_term {
	const char *key;
	const char *value;
};

struct selector {
	struct selector_term terms[SELECTOR_TERMS_MAX];
	size_t count;
	char *text; /* holds what the terms point to */
};

/* Blanks around keys and values are dropped; "" selects everything.
 * INVALID_ARGUMENT names the term that is no k=v. */
int selector_parse(struct selector *, const char *text, struct err *);
void selector_free(struct selector *);

bool selector_matches(const struct selector *,
    Openshell__Datamodel__V1__ObjectMeta__LabelsEntry *const *, size_t count);

#endif
