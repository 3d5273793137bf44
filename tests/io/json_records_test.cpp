// SPDX-License-Identifier: Apache-2.0
// Lines and objects of text files, however they end, whatever stands in front, and in any pieces.
#include <mistral/io/json/records.hpp>

#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/io/json/lines.hpp>

#include "../support/scratch.hpp"

using namespace mistral;
using test::error_of;
using Lines = std::vector<std::string>;

namespace {

Lines lines_of(const std::string& content, std::size_t max_bytes = 1000) {
  const test::Scratch scratch;
  LineReader reader(scratch.write("f", content), "test", max_bytes);
  Lines lines;
  while (reader.next()) lines.push_back(reader.too_long() ? "(too long)" : reader.line());
  return lines;
}

// What the records of a file hold in their field `n`, and where each stands; errors as they come.
Lines records_of(const std::string& content, std::size_t max_bytes = 1000) {
  const test::Scratch scratch;
  const std::string path = scratch.write("f", content);
  JsonRecords records(path, "test", max_bytes);
  Lines all;
  while (records.next()) {
    try {
      all.push_back(std::to_string(records.number()) + "=" +
                    std::to_string(records.object().integer("n", 0, 1'000'000)));
    } catch (const Error& error) {
      std::string what = error.what();
      if (const auto at = what.find(path); at != std::string::npos) what.replace(at, path.size(), "F");
      all.push_back(what);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("CR LF ends a line as LF does, a lone CR ends none, and a byte order mark is no part of the first") {
  CHECK(lines_of("a\r\nb\nc\r\n") == Lines{"a", "b", "c"});
  CHECK(lines_of("a\rb\r\r\n\r\n\r") == Lines{"a\rb\r", "", "\r"});
  CHECK(lines_of("\xef\xbb\xbfone\r\n\xef\xbb\xbftwo") == Lines{"one", "\xef\xbb\xbftwo"});
  CHECK(lines_of("\xef\xbb\xbf") == Lines{});
  CHECK(lines_of("\xef\xbb\xbf\r\n") == Lines{""});
  CHECK(lines_of("\xef\xbb") == Lines{"\xef\xbb"});
  CHECK(lines_of("\xef") == Lines{"\xef"});
  CHECK(lines_of("") == Lines{});
  for (const std::string start : {"\xff\xfe", "\xfe\xff"}) {
    CHECK(error_of([&] { lines_of(start + "a"); }).ends_with("/f: cannot read: it is UTF-16; save it as UTF-8"));
  }
  CHECK(lines_of("\xff") == Lines{"\xff"});
  CHECK(lines_of("12345\r\n123456\r\n1234\r\n", 5) == Lines{"12345", "(too long)", "1234"});
  for (std::size_t size = 65530; size < 65540; ++size) {  // around the end of the reader's buffer
    CAPTURE(size);
    const std::string text(size, 'x');
    CHECK(lines_of(text + "\r\n" + text + "\r", 100'000) == Lines{text, text + "\r"});
    CHECK(lines_of(text + "\r\r\nb", 100'000) == Lines{text + "\r", "b"});
  }
}

TEST_CASE("a pipe that gives a byte at a time gives the same lines") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  std::thread writer([&] {
    for (const char c : std::string("\xef\xbb\xbf{\"n\": 1}\r\n{\"n\": 2}")) {
      (void)!::write(ends[1], &c, 1);
      ::usleep(200);
    }
    ::close(ends[1]);
  });
  Lines lines;
  LineReader reader("/dev/fd/" + std::to_string(ends[0]), "test", 1000);
  while (reader.next()) lines.push_back(reader.line());
  writer.join();
  ::close(ends[0]);
  CHECK(lines == Lines{"{\"n\": 1}", "{\"n\": 2}"});
}

TEST_CASE("a file of lines and a file of one array give the same objects") {
  CHECK(records_of("{\"n\": 1}\n\n \t\r\n{\"n\": 2}\r\n{\"n\": 3}") == Lines{"1=1", "4=2", "5=3"});
  CHECK(records_of("[{\"n\": 1}, {\"n\": 2},{\"n\":3}]") == Lines{"1=1", "2=2", "3=3"});
  CHECK(records_of("\xef\xbb\xbf \r\n\n[\r\n  {\r\n \"n\": 1\r\n },\r\n {\"n\": 2} \r\n]\r\n\r\n") ==
        Lines{"1=1", "2=2"});
  CHECK(records_of("[]") == Lines{});
  CHECK(records_of(" [ ]\n") == Lines{});
  CHECK(records_of("") == Lines{});
  CHECK(records_of("[{\"s\": \"a,]}\\\"[{\\\\\", \"n\": 5, \"deep\": [[{\"x\": [1, 2]}], \"]\"]}]") == Lines{"1=5"});
}

TEST_CASE("what is wrong with an element is said with its line and its number, and the next one is read") {
  const std::string at = "[test] F:";
  CHECK(records_of("[\n{\"n\": 1},\n\n {\"n\": },\n{\"n\": 3}]") ==
        Lines{"1=1", at + "4 (element 2): not valid JSON at byte 7 (line 1, column 7)", "3=3"});
  CHECK(records_of("[3, \"x,y\", {\"n\": 3}]") == Lines{at + "1 (element 1): expected a JSON object, got 3",
                                                        at + "1 (element 2): expected a JSON object, got 'x,y'",
                                                        "3=3"});
  CHECK(records_of("[{\"n\": 1}, ]") ==
        Lines{"1=1", at + "1 (element 2): not valid JSON at byte 1 (line 1, column 1)"});
  const std::string long_one = "{\"s\": \"" + std::string(70'000, 'x') + "\", \"n\": 1}";
  CHECK(records_of("[" + long_one + ",\n{\"n\": 2}]") ==
        Lines{at + "1 (element 1): expected an element of at most 1000 bytes, got a longer one", "2=2"});
  CHECK(records_of("[" + long_one + ",\n{\"n\": 2}]", 80'000) == Lines{"1=1", "2=2"});
  const std::string cut = ": expected ] at the end of the array, got the end of the file";
  CHECK(records_of("[{\"n\": 1},\n{\"n\"") == Lines{"1=1", at + "2 (element 2)" + cut});
  CHECK(records_of("[{\"n\": 1}") == Lines{at + "1 (element 1)" + cut});
  CHECK(records_of("[") == Lines{at + "1 (element 1)" + cut});
  CHECK(records_of("[{\"n\": 1}]\n[{\"n\": 1}]") ==
        Lines{"1=1", at + "2 (element 2): expected the end of the file behind the array, got more"});
}

TEST_CASE("an array of many megabytes is read in pieces, and each object is the one that was written") {
  const test::Scratch scratch;
  std::string text = "[";
  for (int i = 0; i < 100'000; ++i) {
    text += (i > 0 ? ",\n" : "\n") + std::string("{\"t\": \"") + std::string(static_cast<std::size_t>(i % 61), 'x') +
            "\", \"n\": " + std::to_string(i) + "}";
  }
  std::int64_t count = 0;
  bool right = true;
  for_each_json_line(
      scratch.write("big.json", text + "\n]\n"), "test", [&](const JsonObject& json, std::size_t number) {
        right = right && json.integer("n", 0, 1'000'000) == count && static_cast<std::int64_t>(number) == count + 1 &&
                json.string("t").size() == static_cast<std::size_t>(count % 61);
        ++count;
      });
  CHECK(right);
  CHECK(count == 100'000);
}
