// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// A date and a time of day as a clock on the wall shows them.
struct Moment {
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0;

  /// Returns the time of this machine's clock, in its zone.
  static Moment now() {
    const std::time_t time = std::time(nullptr);
    std::tm parts{};
    if (localtime_r(&time, &parts) == nullptr) return {};
    return {parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec};
  }

  /// Reads `2024-07-26T09:05:03`, or the date alone; none for another text.
  static std::optional<Moment> parse(const std::string& text) {
    Moment m;
    int length = 0;
    const bool whole = std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &m.year, &m.month, &m.day, &m.hour,
                                   &m.minute, &m.second, &length) == 6;
    if (!whole) {
      m.hour = m.minute = m.second = 0;
      if (std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &m.year, &m.month, &m.day, &length) != 3) return std::nullopt;
    }
    const bool in_range = m.year >= 1 && m.month >= 1 && m.month <= 12 && m.day >= 1 && m.day <= 31 && m.hour >= 0 &&
                          m.hour < 24 && m.minute >= 0 && m.minute < 60 && m.second >= 0 && m.second <= 60;
    if (!in_range || static_cast<std::size_t>(length) != text.size()) return std::nullopt;
    return m;
  }

  /// Days since the year began, 0 on its first.
  int day_of_year() const noexcept {
    constexpr int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return before[month - 1] + day - 1 + (leap && month > 2 ? 1 : 0);
  }

  /// 0 on Sundays.
  int day_of_week() const noexcept {
    const int y = year - 1;
    return (1 + y * 365 + y / 4 - y / 100 + y / 400 + day_of_year()) % 7;  // the first day of year 1 was a Monday
  }
};

/// A moment as Python's strftime writes it, names in English whatever the host's locale is. Throws Fault for a part of
/// the format that isn't known.
inline std::string moment_text(const Moment& m, std::string_view format) {
  constexpr const char* months[] = {"January", "February", "March",     "April",   "May",      "June",
                                    "July",    "August",   "September", "October", "November", "December"};
  constexpr const char* days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
  std::string out;
  const auto number = [&](int value, int width, char pad) {
    std::string digits = std::to_string(value);
    const auto missing = static_cast<std::size_t>(width) - (std::min)(static_cast<std::size_t>(width), digits.size());
    if (pad != '-') out.append(missing, pad);
    out += digits;
  };
  for (std::size_t at = 0; at < format.size(); ++at) {
    if (format[at] != '%') {
      out += format[at];
      continue;
    }
    ++at;
    const bool padded = at < format.size() && (format[at] == '-' || format[at] == '_' || format[at] == '0');
    const char flag = padded ? format[at] == '_' ? ' ' : format[at] : '0';
    if (padded) ++at;
    const int half_day = m.hour % 12 == 0 ? 12 : m.hour % 12;
    switch (at < format.size() ? format[at] : '\0') {
      case 'Y':
        number(m.year, 1, '-');
        break;
      case 'y':
        number(m.year % 100, 2, flag);
        break;
      case 'm':
        number(m.month, 2, flag);
        break;
      case 'd':
        number(m.day, 2, flag);
        break;
      case 'e':
        number(m.day, 2, padded ? flag : ' ');
        break;
      case 'H':
        number(m.hour, 2, flag);
        break;
      case 'I':
        number(half_day, 2, flag);
        break;
      case 'M':
        number(m.minute, 2, flag);
        break;
      case 'S':
        number(m.second, 2, flag);
        break;
      case 'f':
        out += "000000";
        break;
      case 'j':
        number(m.day_of_year() + 1, 3, flag);
        break;
      case 'w':
        number(m.day_of_week(), 1, '0');
        break;
      case 'u':
        number(m.day_of_week() == 0 ? 7 : m.day_of_week(), 1, '0');
        break;
      case 'p':
        out += m.hour < 12 ? "AM" : "PM";
        break;
      case 'A':
        out += days[m.day_of_week()];
        break;
      case 'a':
        out.append(days[m.day_of_week()], 3);
        break;
      case 'B':
        out += months[m.month - 1];
        break;
      case 'b':
      case 'h':
        out.append(months[m.month - 1], 3);
        break;
      case 'F':
        out += moment_text(m, "%Y-%m-%d");
        break;
      case 'T':
        out += moment_text(m, "%H:%M:%S");
        break;
      case 'R':
        out += moment_text(m, "%H:%M");
        break;
      case 'D':
      case 'x':
        out += moment_text(m, "%m/%d/%y");
        break;
      case 'X':
        out += moment_text(m, "%H:%M:%S");
        break;
      case 'c':
        out += moment_text(m, "%a %b %e %H:%M:%S %Y");
        break;
      case 'n':
        out += '\n';
        break;
      case 't':
        out += '\t';
        break;
      case 'Z':  // as of a time without a zone
      case 'z':
        break;
      case '%':
        out += '%';
        break;
      default:
        throw Fault("strftime_now: the format '%" +
                    std::string(format.substr(at < format.size() ? at : format.size(), 1)) + "' is not supported");
    }
  }
  return out;
}

}}}  // namespace mistral::jinja
