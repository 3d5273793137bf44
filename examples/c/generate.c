// SPDX-License-Identifier: Apache-2.0
// Continues a text:  generate CHECKPOINT [PROMPT]
//
// Linked with a compiled model, which holds mistral/c.h's functions:
//   mistral compile CHECKPOINT --out model.so
//   cc -Iinclude examples/c/generate.c ./model.so -o generate
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mistral/c.h>

// Ends the program where a call failed.
static void check(mistral_status status) {
  if (status == MISTRAL_OK) return;
  fprintf(stderr, "%s\n", mistral_error_message());
  exit(1);
}

// Writes each piece of text as soon as it is final, and stops after the second line.
static int32_t write_piece(void* user, const char* text, size_t size) {
  int* const lines = user;
  fwrite(text, 1, size, stdout);
  fflush(stdout);
  for (size_t i = 0; i < size; ++i) *lines += text[i] == '\n';
  return *lines < 2;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s CHECKPOINT [PROMPT]\n", argv[0]);
    return 2;
  }
  const char* const text = argc > 2 ? argv[2] : "In the beginning";

  mistral_model* model = NULL;
  mistral_tokenizer* tokenizer = NULL;
  mistral_session* session = NULL;
  check(mistral_model_load(argv[1], NULL, &model));
  check(mistral_tokenizer_load(argv[1], &tokenizer));
  check(mistral_session_new(model, 0, &session));

  size_t count = 0;
  check(mistral_tokenizer_encode(tokenizer, text, strlen(text), MISTRAL_ENCODE_ADD_SPECIAL, NULL, 0, &count));
  int32_t* const prompt = malloc((count + 1) * sizeof *prompt);
  if (prompt == NULL) return 1;
  check(mistral_tokenizer_encode(tokenizer, text, strlen(text), MISTRAL_ENCODE_ADD_SPECIAL, prompt, count, &count));

  mistral_generate_options options;
  check(mistral_generate_options_init(&options, sizeof options));
  options.max_tokens = 100;
  options.temperature = 0.8f;
  options.seed = 42;

  int lines = 0;
  mistral_generated made = {.size = sizeof made};
  check(mistral_session_generate(session, tokenizer, prompt, count, &options, write_piece, &lines, &made));
  fprintf(stderr, "\n%zu tokens%s\n", made.token_count, made.reason == MISTRAL_STOP_CALLBACK ? ", stopped" : "");

  free(prompt);
  mistral_session_free(session);
  mistral_tokenizer_free(tokenizer);
  mistral_model_free(model);
  return 0;
}
