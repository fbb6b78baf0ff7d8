#include "proto/scope.h"

#include <stddef.h>

Openshell__Datamodel__V1__WorkspaceSelector *scope_of_workspace(
    Openshell__Datamodel__V1__WorkspaceSelector *scope, const char *workspace)
{
	if (workspace == NULL || workspace[0] == '\0')
		return NULL;
	openshell__datamodel__v1__workspace_selector__init(scope);
	scope->selection_case = OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_WORKSPACE;
	scope->workspace = (char *)workspace;
	return scope;
}
