# towline_room(NAME [ROOMS room...] [LIBRARIES library...] [FOLDERS folder...] [SOURCES file...])
#
# Makes the static library towline_NAME of this folder's *.c (but main.c), those of FOLDERS, and
# SOURCES. ROOMS are the rooms it may include, LIBRARIES the ones of others that it owns: no other
# room gets to see either. A room whose .c files are yet to come is its headers.
#
# `#include "base/err.h"` is found in include/base/, whose only entry is a link to the folder base/;
# a room has the include folders of itself and of ROOMS in its path, and no others. Links between
# rooms are therefore private: naming relay does not give you what relay names.
function(towline_room name)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "ROOMS;LIBRARIES;FOLDERS;SOURCES")
	file(GLOB sources CONFIGURE_DEPENDS *.c)
	list(FILTER sources EXCLUDE REGEX "/main\\.c$")
	foreach(folder IN LISTS arg_FOLDERS)
		file(GLOB more CONFIGURE_DEPENDS ${folder}/*.c)
		list(APPEND sources ${more})
	endforeach()

	set(door ${PROJECT_BINARY_DIR}/include/${name})
	file(MAKE_DIRECTORY ${door})
	file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${door}/${name} SYMBOLIC)

	list(TRANSFORM arg_ROOMS PREPEND towline_)
	if(sources OR arg_SOURCES)
		add_library(towline_${name} STATIC ${sources} ${arg_SOURCES})
		target_include_directories(towline_${name} PUBLIC ${door})
		target_link_libraries(towline_${name}
			PRIVATE ${arg_ROOMS} ${arg_LIBRARIES} towline_warnings)
	else()
		message(STATUS "Room ${name} has no .c file yet")
		add_library(towline_${name} INTERFACE)
		target_include_directories(towline_${name} INTERFACE ${door})
	endif()
	set_target_properties(towline_${name} PROPERTIES
		TOWLINE_ROOMS "${arg_ROOMS}" TOWLINE_LIBRARIES "${arg_LIBRARIES}")
endfunction()

# towline_program(NAME SOURCE file... ROOM room [STATIC])
#
# Makes a program of a room and its main file, with what the room may include. Debug information of
# a release goes to .debug/NAME.debug beside it, where debuggers look.
function(towline_program name)
	cmake_parse_arguments(PARSE_ARGV 1 arg "STATIC" "ROOM" "SOURCE")
	foreach(source IN LISTS arg_SOURCE)
		if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${source})
			message(STATUS "Program ${name} has no ${source} yet")
			return()
		endif()
	endforeach()

	add_executable(${name} ${arg_SOURCE})
	towline_link(${name} ${arg_ROOM})
	install(TARGETS ${name} RUNTIME)
	set_target_properties(${name} PROPERTIES TOWLINE_STATIC "${arg_STATIC}")
	if(arg_STATIC) # libuv's getaddrinfo() in a static program; nothing of ours calls it
		target_link_options(${name} PRIVATE LINKER:--no-warnings)
	endif()
	if(CMAKE_BUILD_TYPE STREQUAL "Release")
		towline_split_debug(${name})
	endif()
endfunction()

# Links a program to a room and to all that the room may include itself.
function(towline_link target room)
	get_target_property(rooms towline_${room} TOWLINE_ROOMS)
	get_target_property(libraries towline_${room} TOWLINE_LIBRARIES)
	target_link_libraries(${target} PRIVATE towline_${room} ${rooms} ${libraries} towline_warnings)
endfunction()

function(towline_split_debug target)
	set(folder $<TARGET_FILE_DIR:${target}>/.debug)
	set(debug ${folder}/${target}.debug)
	add_custom_command(TARGET ${target} POST_BUILD
		COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
		COMMAND ${CMAKE_OBJCOPY} --only-keep-debug $<TARGET_FILE:${target}> ${debug}
		COMMAND ${CMAKE_OBJCOPY} --strip-debug --add-gnu-debuglink=${debug}
			$<TARGET_FILE:${target}>
		VERBATIM)
endfunction()
