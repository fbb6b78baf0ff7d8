# The libraries of others, each as third::NAME: linked dynamically, but statically into a program
# that is static. Debian names libuv's archive after no rule, and pkg-config would pull in all that
# libarchive can ever need, where ours reads and writes tar with gzip and zstd: hence the third
# argument.
include(FindPkgConfig)

function(third name module)
	pkg_check_modules(${name} REQUIRED ${module})
	add_library(third::${name} INTERFACE IMPORTED GLOBAL)
	target_include_directories(third::${name} SYSTEM INTERFACE ${${name}_INCLUDE_DIRS})
	set(archives ${ARGN})
	if(NOT archives)
		set(archives ${${name}_LIBRARIES})
	endif()
	target_link_libraries(third::${name} INTERFACE
		$<IF:$<BOOL:$<TARGET_PROPERTY:TOWLINE_STATIC>>,${archives},${${name}_LIBRARIES}>)
endfunction()

third(uv libuv>=1.44 uv_a)
third(xxhash libxxhash>=0.8)
third(protobuf-c libprotobuf-c>=1.4)
third(nghttp2 libnghttp2>=1.52)
third(openssl openssl>=3.0)
third(archive libarchive>=3.6 archive zstd z)
third(sqlite sqlite3>=3.40)
third(jansson jansson>=2.13)
third(ssh libssh>=0.10.6)

# Macros in a header.
find_path(UTHASH_INCLUDE uthash.h REQUIRED)
add_library(third::uthash INTERFACE IMPORTED GLOBAL)
target_include_directories(third::uthash SYSTEM INTERFACE ${UTHASH_INCLUDE})
