/* Calls about the gateway itself and about who calls. */
#include "gateway/control.h"

#include "gateway/gateway.h"
#include "openshell/v1/openshell.pb-c.h"

static Openshell__V1__ServiceStatus status_of(const struct gateway *g)
{
	return store_is_failing(g->store) ? OPENSHELL__V1__SERVICE_STATUS__SERVICE_STATUS_DEGRADED
					  : OPENSHELL__V1__SERVICE_STATUS__SERVICE_STATUS_HEALTHY;
}

void control_info_health(struct control *c, const void *request)
{
	Openshell__V1__HealthResponse reply = OPENSHELL__V1__HEALTH_RESPONSE__INIT;

	(void)request;
	reply.status = status_of(control_gateway(c));
	reply.version = (char *)GATEWAY_API_VERSION;
	control_reply(c, &reply.base);
}

/* There are no users yet: whoever reaches the gateway's loopback runs it. */
void control_info_user(struct control *c, const void *request)
{
	Openshell__V1__GetCurrentUserResponse reply =
	    OPENSHELL__V1__GET_CURRENT_USER_RESPONSE__INIT;
	char *roles[] = { (char *)"platform_admin" };

	(void)request;
	reply.subject = (char *)GATEWAY_LOCAL_SUBJECT;
	reply.display_name = (char *)"local user (not authenticated)";
	reply.n_roles = 1;
	reply.roles = roles;
	reply.identity_provider = (char *)"none";
	control_reply(c, &reply.base);
}

void control_info_gateway(struct control *c, const void *request)
{
	const struct gateway *g = control_gateway(c);
	Openshell__V1__GetGatewayInfoResponse reply =
	    OPENSHELL__V1__GET_GATEWAY_INFO_RESPONSE__INIT;
	Openshell__V1__ComputeDriverInfo driver = OPENSHELL__V1__COMPUTE_DRIVER_INFO__INIT;
	Openshell__V1__ComputeDriverCapabilities can =
	    OPENSHELL__V1__COMPUTE_DRIVER_CAPABILITIES__INIT;
	Openshell__V1__ResourceCapabilities resources = OPENSHELL__V1__RESOURCE_CAPABILITIES__INIT;
	Openshell__V1__ComputeDriverInfo *drivers[] = { &driver };

	(void)request;
	can.driver_name = (char *)g->driver->name;
	can.driver_version = (char *)GATEWAY_VERSION;
	can.resource_capabilities = &resources; /* none is supported */
	driver.name = (char *)g->driver->name;
	driver.capabilities = &can;
	reply.status = status_of(g);
	reply.gateway_version = (char *)GATEWAY_VERSION;
	reply.n_compute_drivers = 1;
	reply.compute_drivers = drivers;
	control_reply(c, &reply.base);
}
