# How everything is compiled: language, warnings, hardening, sanitizers.
#
# TOWLINE_SANITIZE chooses one of
#   address  ASan and UBSan; the first finding ends the program
#   thread   TSan
#   fuzzer   ASan, UBSan and coverage for libFuzzer (clang only)

set(TOWLINE_SANITIZE "" CACHE STRING "address, thread, fuzzer or nothing")
set_property(CACHE TOWLINE_SANITIZE PROPERTY STRINGS "" address thread fuzzer)

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
add_compile_definitions(_GNU_SOURCE TOWLINE_VERSION="${PROJECT_VERSION}")

# Rooms end up in programs only, never in a shared object: -fPIE, unlike -fPIC, lets the compiler
# inline and bind their functions.
add_compile_options(-fPIE -fno-omit-frame-pointer -fno-common)
add_link_options($<IF:$<BOOL:$<TARGET_PROPERTY:TOWLINE_STATIC>>,-static-pie,-pie>)

# Linked by our own code; what protoc-c writes is not held to it.
add_library(towline_warnings INTERFACE)
target_compile_options(towline_warnings INTERFACE
	-Wall -Wextra -Wpedantic -Wconversion -Wshadow
	-Wmissing-prototypes -Wstrict-prototypes -Wvla -Werror)

if(CMAKE_BUILD_TYPE STREQUAL "Debug")
	add_compile_options(-Og)
else()
	string(REPLACE "-O3" "-O2" CMAKE_C_FLAGS_RELEASE "${CMAKE_C_FLAGS_RELEASE}")
	# Asserts stay: they guard what would otherwise be memory corruption.
	string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELEASE "${CMAKE_C_FLAGS_RELEASE}")
	add_compile_options(-g1)
endif()

if(TOWLINE_SANITIZE STREQUAL "")
	set(TOWLINE_STATIC_SUPERVISOR ON)
	include(Hardening)
elseif(TOWLINE_SANITIZE STREQUAL "address")
	set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(TOWLINE_SANITIZE STREQUAL "thread")
	set(sanitizers -fsanitize=thread)
elseif(TOWLINE_SANITIZE STREQUAL "fuzzer")
	if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
		message(FATAL_ERROR "libFuzzer comes with clang: use ./dev fuzz, or set CC=clang-14")
	endif()
	set(sanitizers -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
else()
	message(FATAL_ERROR "TOWLINE_SANITIZE=${TOWLINE_SANITIZE}: use address, thread or fuzzer")
endif()

if(sanitizers)
	# The run-time of a sanitizer is a shared object: no static supervisor in these builds.
	set(TOWLINE_STATIC_SUPERVISOR OFF)
	add_compile_options(${sanitizers})
	add_link_options(${sanitizers})
endif()
