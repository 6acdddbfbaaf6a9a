// Text to ids for vocabularies of WordPiece, as a caller sees it.
#pragma once
#include <cstdint>

namespace bertsmith {

enum CharacterKind : uint8_t { ELSEWHERE = 0, SPACE = 1, ALONE = 2, INSIDE = 3 };  // SPACE ends a word, ALONE is a word of its own

constexpr int LONGEST = 256;  // characters of a word, at the most that a table may say

struct WordTable {
  const uint8_t* kind;    // [characters]
  const int32_t* at;      // [characters + 1]: where what a character becomes stands in `turned`
  const char* turned;     // UTF-8
  const char* pieces;     // the vocabulary, one after the other
  const int32_t* starts;  // [many + 1]
  const int32_t *before, *after;  // ids of the special tokens around a text
  int32_t characters, many, many_before, many_after, unknown, longest;  // longest: characters of a word that is looked up
};

class Words {
 public:
  virtual ~Words() = default;
  // Text i is text[starts[i], starts[i + 1]), valid UTF-8. `ids` has room for a token a byte and all special ones; those that are kept stand
  // one after the other, a text's from begins[i] on ([texts + 1]). whole [texts]: how many there would be uncut; -1 where a character is not
  // in the table.
  virtual void run(const char* text, const int64_t* starts, int texts, int most, int threads, int32_t* ids, int32_t* begins, int32_t* whole) const = 0;
};

Words* words(const WordTable& table);

}  // namespace bertsmith
