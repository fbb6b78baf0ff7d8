/* proto/scope.h: which workspace a request is about. */
#ifndef PROTO_SCOPE_H
#define PROTO_SCOPE_H

#include "openshell/datamodel/v1/datamodel.pb-c.h"

/* Makes ${scope} say ${workspace}, which is lent to it, and returns it. NULL, which a request
 * has for the default workspace, when ${workspace} is NULL or empty. */
Openshell__Datamodel__V1__WorkspaceSelector *scope_of_workspace(
    Openshell__Datamodel__V1__WorkspaceSelector *scope, const char *workspace);

#endif
