/* Classify a picture: classify MODEL.bittern IMAGE.ppm [LABELS.txt]
 *
 * The same as examples/cpp/main.cpp, in C99. The picture is a binary PPM, or a PGM for a network with one channel, of
 * exactly the network's size. Its pixels become numbers as the file's `preprocess` metadata says. */
#include <bittern/c_api.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char* place, const char* problem) {
  fprintf(stderr, "classify: %s: %s\n", place, problem);
  exit(2);
}

/* Ends the program with the library's message: place, problem, remedy. */
static void check(bittern_code code, bittern_error** error) {
  if (code == BITTERN_OK) return;
  fprintf(stderr, "classify: %s\n", bittern_error_message(*error));
  bittern_error_free(*error);
  exit(2);
}

static void* allocate(size_t count, size_t size) {
  void* memory = calloc(count, size);
  if (memory == NULL) fail("memory", "not enough");
  return memory;
}

/* The next number of a PPM header; a comment runs from # to the end of its line. */
static int header_number(FILE* file) {
  int number = 0;
  while (fscanf(file, " %1[#]%*[^\n]", (char[2]){0}) == 1) continue;
  return fscanf(file, "%d", &number) == 1 ? number : 0;
}

/* The pixels: rows from the top, channels together. shape becomes {1, channels, height, width}. */
static unsigned char* read_picture(const char* path, int64_t shape[4]) {
  FILE* file = fopen(path, "rb");
  if (file == NULL) fail(path, "cannot be read");
  const int first = fgetc(file), kind = fgetc(file), width = header_number(file), height = header_number(file), maximum = header_number(file);
  const int known = first == 'P' && (kind == '5' || kind == '6') && maximum == 255;
  if (!known || width < 1 || height < 1 || width > 1 << 14 || height > 1 << 14) fail(path, "is no binary PPM or PGM with 8 bits per channel");
  fgetc(file); /* the one white space after the header */
  shape[0] = 1, shape[1] = kind == '5' ? 1 : 3, shape[2] = height, shape[3] = width;
  const size_t size = (size_t)(shape[1] * shape[2] * shape[3]);
  unsigned char* pixels = allocate(size, 1);
  if (fread(pixels, 1, size, file) != size) fail(path, "ends too early");
  fclose(file);
  return pixels;
}

/* A setting of `preprocess` for a channel, such as "mean":[104,117,123]. The object holds nothing but such settings, so a
 * search is enough; a program that has a JSON library would use that. */
static float setting(const char* preprocess, const char* key, int64_t channel, float otherwise) {
  const char* next = preprocess != NULL ? strstr(preprocess, key) : NULL;
  if (next == NULL) return otherwise;
  next += strlen(key);
  next += strspn(next, ": [");
  float found = otherwise;
  for (int64_t i = 0; i <= channel; ++i) { /* one number stands for all channels */
    char* end = NULL;
    const double number = strtod(next, &end);
    if (end == next) break;
    found = (float)number;
    next = end + (*end == ',');
  }
  return found;
}

/* One number per channel and pixel, channel by channel: (pixel * scale - mean) / std. */
static float* network_input(const unsigned char* pixels, const int64_t shape[4], const char* preprocess) {
  const int64_t channels = shape[1], count = shape[2] * shape[3];
  const int reversed = preprocess != NULL && strstr(preprocess, "\"BGR\"") != NULL;
  float* input = allocate((size_t)(channels * count), sizeof(float));
  for (int64_t channel = 0; channel < channels; ++channel) {
    const float scale = setting(preprocess, "\"scale\"", channel, 1), mean = setting(preprocess, "\"mean\"", channel, 0);
    const float deviation = setting(preprocess, "\"std\"", channel, 1);
    const unsigned char* pixel = pixels + (reversed ? channels - 1 - channel : channel);
    for (int64_t i = 0; i < count; ++i) input[channel * count + i] = ((float)pixel[i * channels] * scale - mean) / deviation;
  }
  return input;
}

/* Prints the five best classes. Scores that are no shares of 1 yet are made such. */
static void print_best(float* scores, size_t classes, const char* names) {
  double largest = scores[0], smallest = scores[0], total = 0, sum = 0;
  for (size_t i = 0; i < classes; ++i) {
    total += scores[i];
    largest = fmax(largest, scores[i]);
    smallest = fmin(smallest, scores[i]);
  }
  const int done = smallest >= 0 && fabs(total - 1) < 1e-3;
  for (size_t i = 0; i < classes; ++i) sum += exp(scores[i] - largest);
  for (int rank = 0; rank < 5 && (size_t)rank < classes; ++rank) {
    size_t best = 0;
    for (size_t i = 1; i < classes; ++i) best = scores[i] > scores[best] ? i : best;
    char label[200] = "";
    FILE* file = names != NULL ? fopen(names, "r") : NULL;
    for (size_t line = 0; file != NULL && line <= best; ++line) {
      if (fgets(label, sizeof label, file) == NULL) label[0] = 0;
    }
    if (file != NULL) fclose(file);
    label[strcspn(label, "\n")] = 0;
    const double share = done ? (double)scores[best] : exp(scores[best] - largest) / sum;
    printf("%8.4f %%  %.9g  %zu  %s\n", 100 * share, (double)scores[best], best, label);
    scores[best] = -INFINITY;
  }
}

int main(int count, char** words) {
  if (count != 3 && count != 4) fail("usage", "classify MODEL.bittern IMAGE.ppm [LABELS.txt]");
  bittern_error* error = NULL;
  bittern_model* model = NULL;
  bittern_session* session = NULL;
  check(bittern_load(words[1], NULL, &model, &error), &error);
  check(bittern_session_new(model, NULL, &session, &error), &error);

  int64_t shape[4];
  unsigned char* pixels = read_picture(words[2], shape);
  const char* preprocess = bittern_model_metadata(model, "preprocess");
  if (preprocess != NULL && strstr(preprocess, "\"NHWC\"") != NULL) fail(words[1], "wants channels last, which this example cannot do");
  check(bittern_session_prepare(session, &(bittern_shape){shape, 4}, 1, &error), &error); /* a picture of the wrong size is refused here */
  const bittern_value* output = bittern_session_output(session, 0);
  size_t classes = 1;
  for (int32_t i = 0; i < output->rank; ++i) classes *= (size_t)output->sizes[i];
  if (classes == 0) fail(words[1], "gives no classes");

  float* input = network_input(pixels, shape, preprocess);
  float* scores = allocate(classes, sizeof(float));
  const bittern_const_view source = {.data = input, .sizes = shape, .rank = 4, .dtype = BITTERN_F32};
  const bittern_view target = {.data = scores, .sizes = output->sizes, .rank = output->rank, .dtype = BITTERN_F32};
  check(bittern_run(session, &source, 1, &target, 1, &error), &error);
  print_best(scores, classes, count == 4 ? words[3] : NULL);

  free(scores);
  free(input);
  free(pixels);
  bittern_session_free(session);
  bittern_model_free(model);
  return 0;
}
