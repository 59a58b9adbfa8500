#include "graph/windows.h"

#include <algorithm>
#include <iterator>

#include "graph/schema.h"

namespace bittern::graph {
namespace {

constexpr std::int64_t most = 1 << 20;  // far beyond any network; keeps every product below 2^63

std::string numbers_needed(std::size_t count) {
  const char* const words[] = {"no number is",      "one number is",    "two numbers are", "three numbers are",
                               "four numbers are", "five numbers are", "six numbers are"};
  return (count < std::size(words) ? words[count] : std::to_string(count) + " numbers are") + std::string(" needed");
}

// A list attribute of `count` numbers from `least` on.
Shape sizes_attribute(const Node& node, const char* name, std::size_t count, std::int64_t least) {
  Shape values = ints_attribute(node, name, Shape(count, least));
  require(values.size() == count, node, std::string(name) + " " + to_string(values), numbers_needed(count));
  for (const std::int64_t v : values) {
    require(v >= least && v <= most, node, std::string(name) + " " + to_string(values), "allowed are " + std::to_string(least) + " to 1048576");
  }
  return values;
}

std::string by(const Shape& kernel) {
  std::string text;
  for (const std::int64_t k : kernel) text += (text.empty() ? "" : " x ") + std::to_string(k);
  return text;
}

// What both directions share: all but padding and results.
Windows start(const Node& node, const Shape& sizes, const Shape& kernel) {
  Windows win;
  win.stride = sizes_attribute(node, "strides", sizes.size(), 1);
  win.dilation = sizes_attribute(node, "dilations", sizes.size(), 1);
  std::int64_t taps = 1;
  for (const std::int64_t k : kernel) {
    require(k >= 1 && k <= most, node, "kernel of " + by(kernel), "allowed are 1 to 1048576");
    taps = std::min(most * most, taps * k);
  }
  require(taps <= 1 << 26, node, "kernel of " + by(kernel), "at most 67108864 elements are supported");
  win.kernel = kernel;
  win.before = win.after = win.out = Shape(sizes.size(), 0);
  return win;
}

void explicit_pads(const Node& node, Windows& win) {
  const std::size_t rank = win.kernel.size();
  const Shape pads = sizes_attribute(node, "pads", 2 * rank, 0);
  win.before.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
  win.after.assign(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end());
}

}  // namespace

Windows windows(const Node& node, const Shape& sizes, const Shape& kernel) {
  Windows win = start(node, sizes, kernel);
  const auto reach = [&](std::size_t i) { return win.dilation[i] * (kernel[i] - 1) + 1; };
  const std::string automatic = string_attribute(node, "auto_pad", "NOTSET");
  if (automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const std::int64_t out = (sizes[i] + win.stride[i] - 1) / win.stride[i];
      const std::int64_t total = std::max<std::int64_t>(0, (out - 1) * win.stride[i] + reach(i) - sizes[i]);
      win.before[i] = automatic == "SAME_UPPER" ? total / 2 : total - total / 2;
      win.after[i] = total - win.before[i];
    }
  } else if (automatic == "NOTSET") {
    explicit_pads(node, win);
  } else {
    require(automatic == "VALID", node, "auto_pad " + automatic, "allowed are NOTSET, SAME_UPPER, SAME_LOWER, VALID");
  }

  const bool ceil = int_attribute(node, "ceil_mode", 0) != 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::int64_t padded = sizes[i] + win.before[i] + win.after[i], room = padded - reach(i);
    // With ceil_mode a single window may reach beyond the padded map.
    const bool cut = ceil && room < 0 && room > -win.stride[i] && sizes[i] > 0;
    require(room >= 0 || cut, node, "a window of " + std::to_string(reach(i)) + " over " + std::to_string(padded) + " padded elements");
    win.out[i] = cut ? 1 : room / win.stride[i] + 1;
    // A window that ceil_mode adds must start inside the input or its left padding.
    if (ceil && !cut && room % win.stride[i] != 0 && win.out[i] * win.stride[i] < sizes[i] + win.before[i]) ++win.out[i];
  }
  return win;
}

Windows transposed_windows(const Node& node, const Shape& sizes, const Shape& kernel) {
  Windows win = start(node, sizes, kernel);
  const std::size_t rank = sizes.size();
  const std::string automatic = string_attribute(node, "auto_pad", "NOTSET");
  const bool same = automatic == "SAME_UPPER" || automatic == "SAME_LOWER";
  require(same || automatic == "NOTSET" || automatic == "VALID", node, "auto_pad " + automatic, "allowed are NOTSET, SAME_UPPER, SAME_LOWER, VALID");
  const Shape extra = sizes_attribute(node, "output_padding", rank, 0);
  Shape covered(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    // Before the product with the stride is taken, which must stay below 2^63.
    require(sizes[i] >= 1 && sizes[i] <= std::int64_t{1} << 40, node, "a map of sizes " + to_string(sizes), "allowed are 1 to 2^40");
    covered[i] = win.stride[i] * (sizes[i] - 1) + win.dilation[i] * (kernel[i] - 1) + 1 + extra[i];
  }
  const bool asked = node.attributes.count("output_shape") != 0;
  if (!asked && !same) {
    if (automatic == "NOTSET") explicit_pads(node, win);
    for (std::size_t i = 0; i < rank; ++i) {
      win.out[i] = covered[i] - win.before[i] - win.after[i];
      const std::int64_t cut = win.before[i] + win.after[i];
      require(win.out[i] >= 1, node, "padding of " + std::to_string(cut) + " cut off " + std::to_string(covered[i]) + " elements",
              "nothing would be left");
    }
    return win;
  }
  if (asked) {
    win.out = ints_attribute(node, "output_shape", {});
    require(win.out.size() == rank, node, "output_shape " + to_string(win.out), numbers_needed(rank));
    for (const std::int64_t size : win.out) {
      require(size >= 1 && size <= std::int64_t{1} << 40, node, "output_shape " + to_string(win.out), "allowed are 1 to 2^40");
    }
  } else {
    for (std::size_t i = 0; i < rank; ++i) win.out[i] = sizes[i] * win.stride[i];
  }
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t total = std::max<std::int64_t>(0, covered[i] - win.out[i]);
    win.before[i] = automatic == "SAME_UPPER" ? total / 2 : total - total / 2;
    win.after[i] = total - win.before[i];
  }
  return win;
}

Shape pool_kernel(const Node& node, const Shape& input) {
  const Shape kernel = ints_attribute(node, "kernel_shape", {});
  require(kernel.size() + 2 == input.size(), node, "kernel_shape " + to_string(kernel) + " for an input " + to_string(input),
          "one size for each dimension behind the channels is needed");
  return kernel;
}

Window window(const Node& node, const Shape& input, std::int64_t kh, std::int64_t kw) {
  if (input.size() == 3) {
    const Windows w = windows(node, {input[2]}, {kw});
    return {kh, kw, 1, w.stride[0], 1, w.dilation[0], 0, w.before[0], 0, w.after[0], 1, w.out[0]};
  }
  const Windows w = windows(node, {input[2], input[3]}, {kh, kw});
  return {kh, kw, w.stride[0], w.stride[1], w.dilation[0], w.dilation[1], w.before[0], w.before[1], w.after[0], w.after[1], w.out[0], w.out[1]};
}

bool tuned_pool(const Node& node, const Shape& x) {
  Shape kernel = pool_kernel(node, x);
  if (x.size() == 3) kernel.insert(kernel.begin(), 1);
  const Window win = window(node, x, kernel[0], kernel[1]);
  const bool cut = x[x.size() - 1] + win.pad_left + win.pad_right <= (kernel[1] - 1) * win.dilation_w ||
                   (x.size() == 4 && x[2] + win.pad_top + win.pad_bottom <= (kernel[0] - 1) * win.dilation_h);
  if (cut) return false;
  return std::max(win.pad_top, win.pad_bottom) < kernel[0] * win.dilation_h && std::max(win.pad_left, win.pad_right) < kernel[1] * win.dilation_w;
}

}  // namespace bittern::graph
