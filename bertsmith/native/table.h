// Rows of tables that a caller asks for, by number.
#pragma once
#include <stdexcept>
#include <string>

namespace bertsmith {

// Throws std::out_of_range, naming it, if one of `count` numbers is not that of a row.
template <class I>
void in_table(const char* what, const I* numbers, int count, int rows) {
  for (int i = 0; i < count; i++)
    if (numbers[i] < 0 || numbers[i] >= rows)
      throw std::out_of_range(std::string(what) + " " + std::to_string(numbers[i]) + " is not in a table of " + std::to_string(rows) + " rows");
}

}  // namespace bertsmith
