/* The access token: where it comes from, and how it stays secret.
 *
 * It is looked for in this order, as huggingface_hub does: the command line, HF_TOKEN, the file HF_TOKEN_PATH
 * (default $HF_HOME/token). A token never appears in a message and is never written to a file. */
#ifndef HUB_TOKEN_H
#define HUB_TOKEN_H

#include "hub_settings.h"

#include <stddef.h>

/* Sets settings->token, or leaves it NULL when there is none. option is the value of --token, or NULL; its
 * bytes (in argv, which ps shows) are overwritten. */
bool hub_token_find(struct hub_settings *settings, char *option, struct error *err);

/* Whether standard input and standard error are a terminal, so that one can be asked for a token. */
bool hub_token_can_ask(void);

/* Asks for a token without showing what is typed. False (with err) when none was given. */
bool hub_token_ask(struct hub_settings *settings, struct error *err);

/* Replaces the token wherever it stands in text: a server may have repeated it in its answer. */
void hub_token_redact(const struct hub_settings *settings, char *text);

#endif
