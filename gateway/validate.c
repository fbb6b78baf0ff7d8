#include "gateway/validate.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "gateway/names.h"

/* What is asked for and not done yet. One row a field. */

static bool has_exposures(const Openshell__V1__CreateSandboxRequest *r)
{
	return r->n_service_exposures > 0;
}

static bool has_workload_template(const Openshell__V1__CreateSandboxRequest *r)
{
	return r->workload_template[0] != '\0';
}

static bool awaits_attachment(const Openshell__V1__CreateSandboxRequest *r)
{
	return r->await_main_process_attachment;
}

static bool has_policy(const Openshell__V1__CreateSandboxRequest *r)
{
	return r->spec != NULL && r->spec->policy != NULL;
}

static bool has_providers(const Openshell__V1__CreateSandboxRequest *r)
{
	return r->spec != NULL && r->spec->n_providers > 0;
}

static bool has_resources(const Openshell__V1__CreateSandboxRequest *r)
{
	return r->spec != NULL && r->spec->resource_requirements != NULL &&
	    r->spec->resource_requirements->gpu != NULL;
}

static bool has_command(const Openshell__V1__CreateSandboxRequest *r)
{
	return r->spec != NULL && r->spec->n_command > 0;
}

static bool has_restart_policy(const Openshell__V1__CreateSandboxRequest *r)
{
	return r->spec != NULL &&
	    r->spec->restart_policy >
	    OPENSHELL__V1__SANDBOX_RESTART_POLICY__SANDBOX_RESTART_POLICY_NEVER;
}

static const Openshell__V1__SandboxTemplate *template_of(
    const Openshell__V1__CreateSandboxRequest *r)
{
	return r->spec != NULL ? r->spec->template_ : NULL;
}

static bool has_image(const Openshell__V1__CreateSandboxRequest *r)
{
	return template_of(r) != NULL && template_of(r)->image[0] != '\0';
}

static bool has_runtime_class(const Openshell__V1__CreateSandboxRequest *r)
{
	return template_of(r) != NULL && template_of(r)->runtime_class_name[0] != '\0';
}

static bool has_agent_socket(const Openshell__V1__CreateSandboxRequest *r)
{
	return template_of(r) != NULL && template_of(r)->agent_socket[0] != '\0';
}

static bool has_template_resources(const Openshell__V1__CreateSandboxRequest *r)
{
	return template_of(r) != NULL && template_of(r)->resources != NULL &&
	    template_of(r)->resources->n_fields > 0;
}

static bool has_driver_config(const Openshell__V1__CreateSandboxRequest *r)
{
	return template_of(r) != NULL && template_of(r)->driver_config != NULL &&
	    template_of(r)->driver_config->n_fields > 0;
}

static bool has_user_namespaces(const Openshell__V1__CreateSandboxRequest *r)
{
	return template_of(r) != NULL &&
	    template_of(r)->_user_namespaces_case !=
	    OPENSHELL__V1__SANDBOX_TEMPLATE___USER_NAMESPACES__NOT_SET;
}

static const struct {
	const char *field;
	bool (*given)(const Openshell__V1__CreateSandboxRequest *);
} unserved[] = {
	{ "service_exposures", has_exposures },
	{ "workload_template", has_workload_template },
	{ "await_main_process_attachment", awaits_attachment },
	{ "spec.policy", has_policy },
	{ "spec.providers", has_providers },
	{ "spec.resource_requirements.gpu", has_resources },
	{ "spec.command", has_command },
	{ "spec.restart_policy", has_restart_policy },
	{ "spec.template.image", has_image },
	{ "spec.template.runtime_class_name", has_runtime_class },
	{ "spec.template.agent_socket", has_agent_socket },
	{ "spec.template.resources", has_template_resources },
	{ "spec.template.driver_config", has_driver_config },
	{ "spec.template.user_namespaces", has_user_namespaces },
};

static int check_unserved(const Openshell__V1__CreateSandboxRequest *r, struct err *err)
{
	for (size_t i = 0; i < sizeof(unserved) / sizeof(unserved[0]); i++)
		if (unserved[i].given(r))
			return err_set(err, GRPC_UNIMPLEMENTED,
			    "CreateSandbox: %s is not served by this gateway; leave it out",
			    unserved[i].field);
	return 0;
}

/* Environment. */

static bool is_shell_name(const char *name)
{
	if (name[0] == '\0' || (name[0] >= '0' && name[0] <= '9'))
		return false;
	for (; *name != '\0'; name++)
		if (!((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
			(*name >= '0' && *name <= '9') || *name == '_'))
			return false;
	return true;
}

static int check_variable(
    const char *where, const char *key, const char *value, size_t *bytes, struct err *err)
{
	if (!is_shell_name(key))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s: \"%.64s\" is no name for a variable; use letters, digits and '_', not a digit "
		    "first",
		    where, key);
	if (strncmp(key, "OPENSHELL_", 10) == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: \"%.64s\": OPENSHELL_* is reserved",
		    where, key);
	*bytes += strlen(key) + strlen(value) + 2;
	return 0;
}

static int check_environment(const Openshell__V1__SandboxSpec *spec, struct err *err)
{
	const Openshell__V1__SandboxTemplate *t = spec->template_;
	size_t bytes = 0, count = spec->n_environment + (t != NULL ? t->n_environment : 0);

	if (count > VALIDATE_ENVIRONMENT_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "spec.environment: %zu variables; at most %d are allowed", count,
		    VALIDATE_ENVIRONMENT_MAX);
	for (size_t i = 0; i < spec->n_environment; i++)
		if (check_variable("spec.environment", spec->environment[i]->key,
			spec->environment[i]->value, &bytes, err) != 0)
			return -1;
	for (size_t i = 0; t != NULL && i < t->n_environment; i++)
		if (check_variable("spec.template.environment", t->environment[i]->key,
			t->environment[i]->value, &bytes, err) != 0)
			return -1;
	if (bytes > VALIDATE_ENVIRONMENT_BYTES)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "spec.environment: %zu bytes; at most %zu are allowed", bytes,
		    VALIDATE_ENVIRONMENT_BYTES);
	return 0;
}

/* Labels and annotations. */

/* What a selector can express: no ',', no '=', no blank at an end. */
static bool is_label_text(const char *text)
{
	for (; *text != '\0'; text++)
		if (!((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
			(*text >= '0' && *text <= '9') || strchr("-_./", *text) != NULL))
			return false;
	return true;
}

int validate_labels(
    Openshell__V1__CreateSandboxRequest__LabelsEntry *const *labels, size_t count, struct err *err)
{
	if (count > VALIDATE_LABELS_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "labels: %zu; at most %d are allowed",
		    count, VALIDATE_LABELS_MAX);
	for (size_t i = 0; i < count; i++) {
		const char *key = labels[i]->key, *value = labels[i]->value;

		if (key[0] == '\0' || strlen(key) > VALIDATE_LABEL_KEY_MAX || !is_label_text(key))
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "labels: key \"%.64s\" must have 1 to %d of letters, digits and \"-_./\"",
			    key, VALIDATE_LABEL_KEY_MAX);
		if (strlen(value) > VALIDATE_LABEL_VALUE_MAX || !is_label_text(value))
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "labels: the value of \"%.64s\" must have at most %d of letters, digits and "
			    "\"-_./\"",
			    key, VALIDATE_LABEL_VALUE_MAX);
	}
	return 0;
}

static int check_annotations(const Openshell__V1__CreateSandboxRequest *r, struct err *err)
{
	size_t bytes = 0;

	for (size_t i = 0; i < r->n_annotations; i++) {
		if (r->annotations[i]->key[0] == '\0')
			return err_set(err, GRPC_INVALID_ARGUMENT, "annotations: a key is empty");
		bytes += strlen(r->annotations[i]->key) + strlen(r->annotations[i]->value);
	}
	if (bytes > VALIDATE_ANNOTATION_BYTES)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "annotations: %zu bytes; at most %zu are allowed", bytes,
		    VALIDATE_ANNOTATION_BYTES);
	return 0;
}

static int check_spec(const Openshell__V1__SandboxSpec *spec, struct err *err)
{
	enum log_level level;

	if (spec->log_level[0] != '\0' && log_level_parse(spec->log_level, &level, err) != 0)
		return err_wrap(err, "spec.log_level");
	return check_environment(spec, err);
}

int validate_create(const Openshell__V1__CreateSandboxRequest *r, struct err *err)
{
	if (r->name[0] != '\0' && names_check_sandbox(r->name, err) != 0)
		return -1;
	if (validate_labels(r->labels, r->n_labels, err) != 0 || check_annotations(r, err) != 0)
		return -1;
	if (r->spec != NULL && check_spec(r->spec, err) != 0)
		return -1;
	return check_unserved(r, err);
}
