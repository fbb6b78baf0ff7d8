/* gateway/validate.h: whether a request makes sense, and asks for nothing that would be
 * ignored. */
#ifndef GATEWAY_VALIDATE_H
#define GATEWAY_VALIDATE_H

#include "base/err.h"
#include "openshell/v1/openshell.pb-c.h"

#define VALIDATE_ENVIRONMENT_MAX   256                 /* variables */
#define VALIDATE_ENVIRONMENT_BYTES ((size_t)128 << 10) /* names and values */
#define VALIDATE_LABELS_MAX        64
#define VALIDATE_LABEL_KEY_MAX     253 /* as Kubernetes has it, with a prefix */
#define VALIDATE_LABEL_VALUE_MAX   63
#define VALIDATE_ANNOTATION_BYTES  ((size_t)256 << 10) /* keys and values */

/*
 * INVALID_ARGUMENT for what nobody could do; UNIMPLEMENTED, with the field's name, for
 * what this gateway does not do yet: nothing that a client asks for is left out in
 * silence. What only describes (labels, annotations, names) is kept and given back.
 */
int validate_create(const Openshell__V1__CreateSandboxRequest *, struct err *);

int validate_labels(
    Openshell__V1__CreateSandboxRequest__LabelsEntry *const *, size_t count, struct err *);

#endif
