// WordPiece as BERT has it (Devlin et al. 2018, arXiv:1810.04805, section 3): text to ids, a word at a time, the longest piece first.
//
// What a character becomes (lower case, without accents, nothing) and whether it ends a word is looked up in a table that is made by asking
// the tokenizers library; a text with a character that is not in it is left to that library. A word's bytes are hashed from its start on,
// so that each of its beginnings is looked up at the cost of one; a piece that is found is compared, byte by byte.
#include "words.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "team.h"

namespace bertsmith {

namespace {

constexpr int MOST_BYTES = 4;   // of a character
constexpr int TOGETHER = 32;    // texts in a task
constexpr uint64_t WHOLE = 0x243f6a8885a308d3u, REST = 0x13198a2e03707344u;  // what the hash of a word's first piece, and of a later one, begins with

uint64_t mix(uint64_t hash, char c) { return (hash ^ static_cast<uint8_t>(c)) * 0x9e3779b97f4a7c15u ^ hash >> 31; }
bool begins_character(char c) { return (c & 0xc0) != 0x80; }

class Pieces final : public Words {
 public:
  explicit Pieces(const WordTable& t)
      : kind_(t.kind, t.kind + t.characters), at_(t.at, t.at + t.characters + 1), turned_(t.turned, t.at[t.characters]), unknown_(t.unknown),
        longest_(t.longest), before_(t.before, t.before + t.many_before), after_(t.after, t.after + t.many_after), text_(t.pieces, t.starts[t.many]) {
    size_t places = 1;
    while (places < 4 * static_cast<size_t>(t.many)) places *= 2;
    held_.assign(places, {0, 0, 0, -1});
    for (int i = 0; i < t.many; i++) {
      int from = t.starts[i], bytes = t.starts[i + 1] - from;
      const bool later = bytes > 2 && text_[from] == '#' && text_[from + 1] == '#';
      if (later) from += 2, bytes -= 2;
      uint64_t hash = later ? REST : WHOLE;
      for (int b = 0; b < bytes; b++) hash = mix(hash, text_[from + b]);
      size_t place = hash & (places - 1);
      while (held_[place].id >= 0) place = (place + 1) & (places - 1);
      held_[place] = {hash, from, later ? -bytes : bytes, i};
    }
  }

  void run(const char* text, const int64_t* starts, int texts, int most, int threads, int32_t* ids, int32_t* begins, int32_t* whole) const override {
    const auto room = [&](int i) { return ids + starts[i] + static_cast<int64_t>(i) * specials(); };
    share(threads, (texts + TOGETHER - 1) / TOGETHER, [&](int task) {
      std::string word;
      for (int i = task * TOGETHER; i < std::min(texts, (task + 1) * TOGETHER); i++)
        whole[i] = line(text + starts[i], text + starts[i + 1], most, room(i), word);
    });
    begins[0] = 0;
    for (int i = 0; i < texts; i++) {
      const int kept = whole[i] < 0 ? 0 : std::min(whole[i], most);
      std::memmove(ids + begins[i], room(i), kept * sizeof *ids);
      begins[i + 1] = begins[i] + kept;
    }
  }

 private:
  struct Place {
    uint64_t hash;
    int from, bytes, id;  // bytes: below 0 for what goes on with a word
  };

  int specials() const { return static_cast<int>(before_.size() + after_.size()); }

  // The ids of a text, of which `most` are kept, and how many there were; -1: it has a character that is not in the table.
  int line(const char* s, const char* end, int most, int32_t* out, std::string& word) const {
    int32_t* to = std::copy(before_.begin(), before_.end(), out);
    word.clear();
    while (s < end) {
      uint32_t c = static_cast<uint8_t>(*s++);
      int more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
      if (more) c &= 0x3f >> more;
      while (more--) c = c << 6 | (*s++ & 0x3f);
      const int kind = c < kind_.size() ? kind_[c] : ELSEWHERE;
      if (kind == ELSEWHERE) return -1;
      if (kind != INSIDE) to = pieces(word, to), word.clear();
      word.append(turned_, at_[c], at_[c + 1] - at_[c]);
      if (kind == ALONE) to = pieces(word, to), word.clear();
    }
    to = pieces(word, to);
    const int found = static_cast<int>(to - out), kept = std::min(found, most - static_cast<int>(after_.size()));
    std::copy(after_.begin(), after_.end(), out + kept);
    return found + static_cast<int>(after_.size());
  }

  int32_t* pieces(const std::string& word, int32_t* to) const {
    if (word.empty()) return to;
    const char* w = word.data();
    const int bytes = static_cast<int>(word.size());
    int characters = 0;
    for (char c : word) characters += begins_character(c);
    uint64_t hash[MOST_BYTES * LONGEST];
    int32_t* const first = to;
    for (int start = 0, end; start < bytes && characters <= longest_; start = end) {
      uint64_t now = start ? REST : WHOLE;
      for (int i = start; i < bytes; i++) hash[i] = now = mix(now, w[i]);
      int id = -1;
      for (end = bytes; end > start; end--)
        if ((end == bytes || begins_character(w[end])) && (id = find(hash[end - 1], w + start, end - start, start > 0)) >= 0) break;
      if (id < 0) break;
      *to++ = id;
      if (end == bytes) return to;
    }
    *first = unknown_;
    return first + 1;
  }

  int find(uint64_t hash, const char* s, int bytes, bool later) const {
    for (size_t place = hash & (held_.size() - 1);; place = (place + 1) & (held_.size() - 1)) {
      const Place& p = held_[place];
      if (p.id < 0) return -1;
      if (p.hash == hash && p.bytes == (later ? -bytes : bytes) && !std::memcmp(text_.data() + p.from, s, bytes)) return p.id;
    }
  }

  const std::vector<uint8_t> kind_;
  const std::vector<int32_t> at_;
  const std::string turned_;
  const int unknown_, longest_;
  const std::vector<int32_t> before_, after_;
  const std::string text_;
  std::vector<Place> held_;
};

}  // namespace

Words* words(const WordTable& table) { return new Pieces(table); }

}  // namespace bertsmith
