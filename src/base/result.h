#pragma once

#include <cerrno>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <variant>

namespace flockfs {

// Why something failed: an errno value and what was being done, for a person to read.
// The context is empty where the failure is an everyday answer (ENOENT of a lookup) that nobody logs.
struct Error {
  int code = EIO;
  std::string context;

  // "context: strerror(code)", or one of the two if the other says nothing.
  [[nodiscard]] std::string message() const {
    std::string reason = code == 0 ? std::string{} : std::generic_category().message(code);
    if (context.empty()) return reason;
    return reason.empty() ? context : context + ": " + reason;
  }
};

// The calling thread's errno as an Error.
[[nodiscard]] inline Error errno_error(std::string context = {}) { return Error{errno, std::move(context)}; }

// A value or the Error that kept it from being made. Not synchronised.
// REQUIRES for value(), *, ->: ok(). REQUIRES for error(): !ok().
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  [[nodiscard]] T& value() & { return std::get<0>(state_); }
  [[nodiscard]] const T& value() const& { return std::get<0>(state_); }
  [[nodiscard]] T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  [[nodiscard]] const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

// Success, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  [[nodiscard]] const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace flockfs
