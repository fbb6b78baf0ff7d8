include(GNUInstallDirs)

# towline_manual(PROGRAM PAGE WORD...)
#
# Makes the manual page PAGE ("towline.1") of what PROGRAM prints when it is called with these
# words, and installs it. Not of a build with sanitizers, which nobody installs.
function(towline_manual program page)
	if(NOT TARGET ${program} OR NOT TOWLINE_SANITIZE STREQUAL "")
		return()
	endif()
	cmake_path(GET page EXTENSION LAST_ONLY extension)
	string(SUBSTRING ${extension} 1 -1 section)
	set(file ${PROJECT_BINARY_DIR}/man/${page})
	add_custom_command(OUTPUT ${file}
		COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/man
		COMMAND $<TARGET_FILE:${program}> ${ARGN} > ${file}
		DEPENDS ${program} VERBATIM)
	add_custom_target(manual-${page} ALL DEPENDS ${file})
	install(FILES ${file} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endfunction()
