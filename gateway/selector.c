#include "gateway/selector.h"

#include <stdlib.h>
#include <string.h>

static char *trim(char *text)
{
	char *end;

	text += strspn(text, " \t");
	end = text + strlen(text);
	while (end > text && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	return text;
}

static int add_term(struct selector *s, char *term, struct err *err)
{
	char *equals = strchr(term, '=');

	if (s->count == SELECTOR_TERMS_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "label_selector has more than %d terms",
		    SELECTOR_TERMS_MAX);
	if (equals == NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "label_selector: \"%s\" is not of the form key=value", trim(term));
	*equals = '\0';
	s->terms[s->count] = (struct selector_term){ trim(term), trim(equals + 1) };
	if (s->terms[s->count].key[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT, "label_selector: a key is empty");
	s->count++;
	return 0;
}

int selector_parse(struct selector *s, const char *text, struct err *err)
{
	char *next, *term;

	*s = (struct selector){ 0 };
	if (text[strspn(text, " \t")] == '\0')
		return 0;
	if (strlen(text) > SELECTOR_TEXT_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "label_selector is longer than %d bytes",
		    SELECTOR_TEXT_MAX);
	if ((s->text = strdup(text)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	next = s->text;
	while ((term = strsep(&next, ",")) != NULL) {
		if (add_term(s, term, err) != 0) {
			selector_free(s);
			return -1;
		}
	}
	return 0;
}

void selector_free(struct selector *s)
{
	free(s->text);
	*s = (struct selector){ 0 };
}

bool selector_matches(const struct selector *s,
    Openshell__Datamodel__V1__ObjectMeta__LabelsEntry *const *labels, size_t count)
{
	for (size_t i = 0; i < s->count; i++) {
		const struct selector_term *term = &s->terms[i];
		bool found = false;

		for (size_t k = 0; k < count && !found; k++)
			found = strcmp(labels[k]->key, term->key) == 0 &&
			    strcmp(labels[k]->value, term->value) == 0;
		if (!found)
			return false;
	}
	return true;
}
