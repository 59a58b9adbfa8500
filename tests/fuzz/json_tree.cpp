#include "json_tree.h"

#include <cstdint>

namespace fuzz {
namespace {

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  bool whole(Value& out) {
    if (!value(out, 0)) return false;
    skip();
    return at_ == text_.size();
  }

 private:
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
  }
  bool take(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool string(std::string& out) {
    if (!take('"')) return false;
    const std::size_t start = at_;
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    if (at_ >= text_.size()) return false;
    out.assign(text_.substr(start, at_ - start));
    ++at_;
    return true;
  }
  bool value(Value& out, int depth) {
    skip();
    if (at_ >= text_.size() || depth > 100) return false;
    if (text_[at_] == '"') {
      out.kind = Value::Kind::text;
      return string(out.raw);
    }
    if (text_[at_] == '[' || text_[at_] == '{') return container(out, text_[at_] == '{', depth);
    const std::size_t start = at_;
    while (at_ < text_.size() && std::string_view(",]} \n\t\r").find(text_[at_]) == std::string_view::npos) ++at_;
    out = Value::atom(std::string(text_.substr(start, at_ - start)));
    return at_ > start;
  }
  bool container(Value& out, bool object, int depth) {
    const char close = object ? '}' : ']';
    out = object ? Value::object() : Value::array();
    ++at_;
    if (take(close)) return true;
    do {
      if (object && (!string(out.keys.emplace_back()) || !take(':'))) return false;
      if (!value(out.items.emplace_back(), depth + 1)) return false;
    } while (take(','));
    return take(close);
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

void put_utf8(std::uint32_t code, std::string& out) {
  const auto put = [&](std::uint32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

std::uint32_t hex4(std::string_view digits) {
  std::uint32_t code = 0;
  for (const char c : digits.substr(0, 4)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 0;
    code = code << 4 | static_cast<std::uint32_t>(digit);
  }
  return code;
}

void collect(Value& value, std::vector<Value*>& out) {
  out.push_back(&value);
  for (Value& item : value.items) collect(item, out);
}

}  // namespace

Value* Value::find(std::string_view key) {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) return &items[i];
  }
  return nullptr;
}

Value& Value::operator[](std::string_view key) {
  if (Value* const found = find(key)) return *found;
  keys.emplace_back(key);
  return items.emplace_back();
}

bool parse(std::string_view text, Value& out) { return Parser(text).whole(out); }

void write(const Value& value, std::string& out) {
  switch (value.kind) {
    case Value::Kind::atom: out += value.raw; return;
    case Value::Kind::text: out += '"'; out += value.raw; out += '"'; return;
    case Value::Kind::array:
    case Value::Kind::object: break;
  }
  const bool object = value.kind == Value::Kind::object;
  out += object ? '{' : '[';
  for (std::size_t i = 0; i < value.items.size(); ++i) {
    if (i != 0) out += ',';
    if (object) {
      out += '"';
      out += value.keys[i];
      out += "\":";
    }
    write(value.items[i], out);
  }
  out += object ? '}' : ']';
}

std::string escaped(std::string_view bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 4);
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += digits[byte >> 4];
      out += digits[byte & 15u];
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescaped(std::string_view raw) {
  std::string out;
  out.reserve(raw.size());
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '\\' || i + 1 >= raw.size()) {
      out += raw[i];
      continue;
    }
    const char c = raw[++i];
    if (c == 'u' && i + 4 < raw.size()) {
      std::uint32_t code = hex4(raw.substr(i + 1));
      i += 4;
      if (code >= 0xD800 && code < 0xDC00 && i + 6 < raw.size() && raw[i + 1] == '\\' && raw[i + 2] == 'u') {
        code = 0x10000 + ((code - 0xD800) << 10) + (hex4(raw.substr(i + 3)) - 0xDC00);
        i += 6;
      }
      put_utf8(code, out);
    } else {
      out += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
    }
  }
  return out;
}

std::vector<Value*> all_of(Value& root) {
  std::vector<Value*> found;
  collect(root, found);
  return found;
}

}  // namespace fuzz
